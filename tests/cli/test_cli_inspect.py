import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cli_factories import lora_gen, tiny_adapter, tiny_base

from lora_gen.adapter.io import save_adapter


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny_base(tmp_path / "base")


def test_inspect_reports_facts_of_the_delta_weight(base: Path, tmp_path: Path) -> None:
    adapter = tiny_adapter(base)
    save_adapter(adapter, tmp_path / "adapter")
    report = json.loads(lora_gen("inspect", tmp_path / "adapter", "--json").stdout)
    module = report["modules"][0]
    pair = adapter.pairs[module["module"]]
    assert module["delta_norm"] == pytest.approx(
        float((pair.lora_b @ pair.lora_a).norm()), rel=1e-4
    )
    assert (module["rank"], module["used_rank"]) == (8, 2)
    assert report["base"] == str(base)
    assert len(report["modules"]) == len(adapter.pairs)


def test_inspect_names_modules_without_effect(base: Path, tmp_path: Path) -> None:
    adapter = tiny_adapter(base)
    name, pair = next(iter(adapter.pairs.items()))
    silent = replace(pair, lora_b=torch.zeros_like(pair.lora_b))
    save_adapter(replace(adapter, pairs={**adapter.pairs, name: silent}), tmp_path / "adapter")
    result = lora_gen("inspect", tmp_path / "adapter")
    assert f"modules without effect: {name}" in result.stdout


def test_inspect_lists_the_largest_changes_first(base: Path, tmp_path: Path) -> None:
    save_adapter(tiny_adapter(base), tmp_path / "adapter")
    result = lora_gen("inspect", tmp_path / "adapter", "--top", 2)
    assert "5 more; --top 0 lists all." in result.stdout


def test_inspect_refuses_when_the_base_does_not_fit(base: Path, tmp_path: Path) -> None:
    save_adapter(tiny_adapter(base), tmp_path / "adapter")
    config = json.loads((base / "config.json").read_text())
    config["hidden_size"] = 16
    (base / "config.json").write_text(json.dumps(config))
    result = lora_gen("inspect", tmp_path / "adapter", "--base", base, "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"]["code"] == "MISMATCH"
