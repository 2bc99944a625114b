from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_factories import lora_gen

from lora_gen.adapter.io import load_adapter
from lora_gen.conditioning.chat import load_causal_lm
from lora_gen.evaluation.choice import example_losses


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.csv"
    path.write_text("input,output\nmaria@acme.org,acme.org\nbo@corp.net,corp.net\n")
    return path


def test_best_keeps_the_candidate_with_the_lowest_loss_on_the_examples(
    tmp_path: Path, pairs: Path
) -> None:
    asked = ["generate", "take a part of the email", "--num", 3, "--examples", pairs]
    result = lora_gen(*asked, "--best", "--out", tmp_path / "best", "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)["adapters"][0]["provenance"]
    assert record["chosen_among"] == 3
    lora_gen(*asked, "--out", tmp_path / "all")
    candidates = [load_adapter(tmp_path / "all" / str(i)) for i in range(3)]
    examples = [("maria@acme.org", "acme.org"), ("bo@corp.net", "corp.net")]
    losses = example_losses(*load_causal_lm("tiny_lm"), candidates, examples)
    assert int(losses.argmin()) == record["index"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--num", 1], "chooses among candidates, but `--num` is 1. Ask for at least 2."),
        (["--num", 4], "chooses by examples, and there are none. Add `--examples`."),
    ],
)
def test_best_needs_candidates_and_examples(
    tmp_path: Path, options: list[object], message: str
) -> None:
    result = lora_gen("generate", "x", "--best", *options, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert not (tmp_path / "out").exists()
