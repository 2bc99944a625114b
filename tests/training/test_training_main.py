from __future__ import annotations

from pathlib import Path

import pytest
from training_factories import recipe_file, register_toy

from training.__main__ import main
from training.toy_task import ToyTask


def test_main_trains_and_exports(tmp_path: Path) -> None:
    recipe = str(recipe_file(tmp_path / "run"))
    assert main([recipe, "max_steps=3"]) == 0
    assert main([recipe, "max_steps=3", "--export", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_main_exits_with_2_and_one_sentence_on_a_wrong_recipe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(recipe_file(tmp_path / "run")), "max_step=3"]) == 2
    assert capsys.readouterr().err.startswith("CONFIG: `max_step` is not a key of the recipe.")


def test_main_exits_with_2_on_another_run_and_force_accepts_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = str(recipe_file(tmp_path / "run"))
    assert main([recipe, "max_steps=3"]) == 0
    assert main([recipe, "seed=4"]) == 2
    assert "CKPT: `" in capsys.readouterr().err
    assert main([recipe, "seed=4", "--force"]) == 0
    assert "Forced: `" in capsys.readouterr().err


def test_main_exits_with_1_when_training_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken(ToyTask):
        def loss(self, *arguments: object) -> object:  # type: ignore[override]
            loss, values = super().loss(*arguments)  # type: ignore[arg-type]
            return loss * float("nan"), values

    register_toy(monkeypatch, Broken)
    assert main([str(recipe_file(tmp_path / "run"))]) == 1
    said = capsys.readouterr().err
    assert "TRAIN: Step 1 has loss [nan, nan] and gradient norm nan on process 0, but" in said
    assert "every process; nothing was saved. Lower `optimizer.lr`" in said
