from __future__ import annotations

from pathlib import Path

import pytest
from training_factories import ROOT, child, ended

from training.metrics import read_metrics
from training.recipe import load_recipe, parse_recipe

# launcher files for Accelerate are no recipes
RECIPES = sorted(p for p in (ROOT / "recipes").rglob("*.yaml") if p.parent.name != "accelerate")


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: str(p.relative_to(ROOT)))
def test_recipe_loads_and_its_resolved_form_too(path: Path) -> None:
    recipe = load_recipe(path)
    assert parse_recipe(recipe.to_dict()) == recipe


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: str(p.relative_to(ROOT)))
def test_recipe_opens_with_command_hardware_and_metric(path: Path) -> None:
    header = "".join(line for line in path.read_text("utf-8").splitlines() if line[:1] == "#")
    assert f"-m training {path.relative_to(ROOT)}" in header
    for word in ("Hardware and time:", "Metric:", "What it is for:"):
        assert word in header


def test_smoke_recipe_reaches_its_metric(tmp_path: Path) -> None:
    recipe = "recipes/smoke/toy.yaml"
    launcher = ("-m", "accelerate.commands.launch", "--num_processes", "1", "-m", "training")
    with child(recipe, f"output_dir={tmp_path}", launcher=launcher) as process:
        assert ended(process).count("Wrote") == 1
    assert process.returncode == 0
    assert read_metrics(tmp_path / "metrics.jsonl")[-1]["eval/mse"] <= 0.05
    assert (tmp_path / "final" / "model.safetensors").is_file()
