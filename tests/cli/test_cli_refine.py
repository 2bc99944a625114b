import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from cli_factories import lora_gen, tiny_adapter, tiny_base

from lora_gen.adapter.io import load_adapter, save_adapter


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    calls: list[Any] = []

    def refine(adapter: Any, pairs: Any, **options: Any) -> Any:
        calls.append((adapter, pairs, options))
        return SimpleNamespace(adapter=adapter, losses=(2.0, 0.5))

    module = ModuleType("lora_gen.evaluation.refine")
    vars(module)["refine"] = refine
    monkeypatch.setitem(sys.modules, "lora_gen.evaluation.refine", module)
    return calls


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.csv"
    path.write_text("ab,AB\ncd,CD\n")
    return path


def test_refine_writes_the_adapter_and_how_it_was_made(
    calls: list[Any], pairs: Path, tmp_path: Path
) -> None:
    save_adapter(tiny_adapter(tiny_base(tmp_path / "base")), tmp_path / "mine")
    out = tmp_path / "out"
    result = lora_gen("refine", tmp_path / "mine", "--examples", pairs, "--steps", 7, "--out", out)
    assert result.exit_code == 0, result.stderr
    assert "7 steps on 2 examples, loss 2.000 to 0.500." in " ".join(result.stdout.split())
    assert calls[0][1] == [("ab", "AB"), ("cd", "CD")]
    assert load_adapter(out).pairs.keys() == load_adapter(tmp_path / "mine").pairs.keys()
    assert json.loads((out / "lora_gen.json").read_text())["refined_from"] == str(tmp_path / "mine")


def test_refine_starts_fresh_without_an_adapter(
    calls: list[Any], pairs: Path, tmp_path: Path
) -> None:
    base, out = tiny_base(tmp_path / "base"), tmp_path / "out"
    asked = ("refine", "--base", base, "--examples", pairs, "--rank", 3, "--out", out, "--json")
    report = json.loads(lora_gen(*asked).stdout)
    assert report["refined_from"] == "a fresh adapter"
    assert calls[0][0].max_rank == 3


def test_refine_wants_something_to_start_from(
    calls: list[Any], pairs: Path, tmp_path: Path
) -> None:
    result = lora_gen("refine", "--examples", pairs, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "Name an adapter, or a base with `--base`." in result.stderr


def test_refine_refuses_before_training_when_the_output_exists(
    calls: list[Any], pairs: Path, tmp_path: Path
) -> None:
    result = lora_gen("refine", "--base", "x", "--examples", pairs, "--out", tmp_path)
    assert result.exit_code == 2
    assert calls == []
