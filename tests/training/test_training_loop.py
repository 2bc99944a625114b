from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from torch import Tensor, nn
from training_factories import losses, register_toy, toy_recipe, train_toy, weight_hashes

from lora_gen.errors import CheckpointError, MissingDependencyError
from training.errors import TrainingError
from training.loop import export, train
from training.metrics import read_metrics
from training.toy_task import ToyTask


class _StopAt(ToyTask):
    """Fails at one micro-batch, as a machine would."""

    at = 0

    def batch(self, index: int) -> dict[str, Tensor]:
        if index == self.at:
            raise InterruptedError("power cut")
        return super().batch(index)


class _NonFinite(ToyTask):
    """Its loss is not finite at micro-batch 13, inside step 7."""

    value = float("nan")

    def batch(self, index: int) -> dict[str, Tensor]:
        batch = super().batch(index)
        return {**batch, "targets": batch["targets"] + self.value} if index == 13 else batch


# 30 examples in batches of 4: steps 1-3 lie in the first epoch, 4-7 in the second, and so on
@pytest.mark.parametrize("cut", [1, 3, 4, 6, 11])
@pytest.mark.parametrize("log_every", [1, 5])
def test_resume_equals_an_unbroken_run_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: int, log_every: int
) -> None:
    changes: dict[str, Any] = {"checkpoint": {"every": 1}, "tracking": {"log_every": log_every}}
    train_toy(tmp_path / "straight", **changes)
    monkeypatch.setattr(_StopAt, "at", 2 * cut + 1)  # the second of a step's two micro-batches
    register_toy(monkeypatch, _StopAt)
    with pytest.raises(InterruptedError, match="power cut"):
        train_toy(tmp_path / "broken", **changes)
    monkeypatch.undo()
    train_toy(tmp_path / "broken", **changes)
    assert losses(tmp_path / "broken") == losses(tmp_path / "straight")
    assert weight_hashes(tmp_path / "broken", 12) == weight_hashes(tmp_path / "straight", 12)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_resume_restores_the_state_of_either_optimizer(tmp_path: Path, name: str) -> None:
    changes: dict[str, Any] = {"optimizer": {"name": name}, "checkpoint": {"every": 1}}
    train_toy(tmp_path / "straight", **changes)
    train_toy(tmp_path / "broken", **{**changes, "max_steps": 5})
    schedule = train_toy(tmp_path / "broken", **changes)
    assert schedule == 12
    assert losses(tmp_path / "broken") == losses(tmp_path / "straight")
    assert weight_hashes(tmp_path / "broken", 12) == weight_hashes(tmp_path / "straight", 12)


def test_train_is_deterministic_and_depends_on_the_seed(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train_toy(tmp_path / name, f"seed={seed}")
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    assert losses(tmp_path / "a") != losses(tmp_path / "c")


def test_train_does_not_depend_on_evaluation_or_checkpoints(tmp_path: Path) -> None:
    train_toy(tmp_path / "bare", "checkpoint.every=100")
    train_toy(tmp_path / "busy", "checkpoint.every=1", "tracking.eval_every=1")
    assert weight_hashes(tmp_path / "busy", 12) == weight_hashes(tmp_path / "bare", 12)


def test_train_accumulation_equals_one_large_batch(tmp_path: Path) -> None:
    exact = ("task.dropout=0", "task.noise=0", "max_steps=3")
    train_toy(tmp_path / "parts", "batch_size=2", "gradient_accumulation_steps=4", *exact)
    train_toy(tmp_path / "whole", "batch_size=8", "gradient_accumulation_steps=1", *exact)
    parts, whole = (
        load_file(tmp_path / name / "checkpoint-3" / "model.safetensors")
        for name in ("parts", "whole")
    )
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-6)


def test_train_again_after_the_end_changes_nothing(tmp_path: Path) -> None:
    assert train_toy(tmp_path) == 12
    before = losses(tmp_path), weight_hashes(tmp_path, 12)
    assert train_toy(tmp_path) == 12
    assert (losses(tmp_path), weight_hashes(tmp_path, 12)) == before


def test_train_goes_on_to_more_steps_when_the_rate_is_constant(tmp_path: Path) -> None:
    train_toy(tmp_path / "straight")
    train_toy(tmp_path / "longer", "max_steps=7")
    assert train_toy(tmp_path / "longer") == 12
    assert weight_hashes(tmp_path / "longer", 12) == weight_hashes(tmp_path / "straight", 12)


def test_train_saves_the_averaged_weights(tmp_path: Path) -> None:
    train_toy(tmp_path, "ema.decay=0.9")
    final = load_file(tmp_path / "final" / "model.safetensors")
    averages = load_file(tmp_path / "checkpoint-12" / "ema.safetensors")
    weights = load_file(tmp_path / "checkpoint-12" / "model.safetensors")
    torch.testing.assert_close(final, averages, rtol=0, atol=0)
    assert any(not torch.equal(final[name], weights[name]) for name in final)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_train_stops_at_a_loss_that_is_not_finite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    monkeypatch.setattr(_NonFinite, "value", value)
    register_toy(monkeypatch, _NonFinite)
    sentence = r"Step 7 has loss \[.*\] and gradient norm nan .*; `checkpoint-5` is kept\. Lower"
    with pytest.raises(TrainingError, match=sentence):
        train_toy(tmp_path)
    kept = load_file(tmp_path / "checkpoint-5" / "model.safetensors")
    assert all(tensor.isfinite().all() for tensor in kept.values())
    assert not (tmp_path / "final").exists()


class _Half(ToyTask):
    """Notes the type in which products are computed."""

    seen: ClassVar[set[torch.dtype]] = set()

    def loss(
        self, model: nn.Module, batch: Any, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        self.seen.add((batch["inputs"] @ batch["inputs"].mT).dtype)
        return super().loss(model, batch, generator)


def test_train_bf16_computes_in_bf16_and_keeps_float32_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_toy(monkeypatch, _Half)
    AcceleratorState._reset_state()  # Accelerate allows one precision a process
    train_toy(tmp_path, "mixed_precision=bf16")
    AcceleratorState._reset_state()
    assert _Half.seen == {torch.bfloat16}
    kept = load_file(tmp_path / "checkpoint-12" / "model.safetensors")
    assert {tensor.dtype for tensor in kept.values()} == {torch.float32}


def test_train_log_holds_means_of_the_steps_between_lines(tmp_path: Path) -> None:
    train_toy(tmp_path / "each")
    train_toy(tmp_path / "third", "tracking.log_every=3")
    each = [loss for _, loss in losses(tmp_path / "each")]
    means = [sum(each[i : i + 3]) / 3 for i in range(0, 12, 3)]
    assert [loss for _, loss in losses(tmp_path / "third")] == pytest.approx(means)
    line = read_metrics(tmp_path / "third" / "metrics.jsonl")[0]
    assert {"step", "loss", "mean_error", "grad_norm", "lr", "steps_per_second"} == set(line)


def test_train_evaluates_the_averages_at_the_end_too(tmp_path: Path) -> None:
    train_toy(tmp_path, "tracking.eval_every=5")
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in lines if "eval/mse" in line] == [5, 10, 12]


def test_train_writes_tensorboard_files_when_asked(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    train_toy(tmp_path, "tracking.trackers=[tensorboard]")
    assert list((tmp_path / "lora_gen").rglob("events.out.tfevents.*"))


def test_train_refuses_a_tracker_that_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.build.get_available_trackers", list)
    sentence = "`tracking.trackers` names 'wandb', which is not installed. Run `pip install wandb`"
    with pytest.raises(MissingDependencyError, match=re.escape(sentence)):
        train_toy(tmp_path, "tracking.trackers=[wandb]")


def test_export_writes_the_newest_checkpoint_without_training(tmp_path: Path) -> None:
    train_toy(tmp_path / "run", "max_steps=7")
    assert export(toy_recipe(tmp_path / "run"), tmp_path / "out") == 7
    exported = load_file(tmp_path / "out" / "model.safetensors")
    averages = load_file(tmp_path / "run" / "checkpoint-7" / "ema.safetensors")
    torch.testing.assert_close(exported, averages, rtol=0, atol=0)


def test_export_without_a_checkpoint_says_so(tmp_path: Path) -> None:
    sentence = f"`{tmp_path / 'none'}` holds no checkpoint. Train first."
    with pytest.raises(CheckpointError, match=re.escape(sentence)):
        export(toy_recipe(tmp_path / "none"), tmp_path / "out")


def test_train_needs_no_evaluate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Blind:
        def __init__(self, config: Any, context: Any) -> None:
            toy = ToyTask(config, context)
            self.model, self.batch, self.loss = toy.model, toy.batch, toy.loss
            self.save, self.fingerprint = toy.save, toy.fingerprint

    register_toy(monkeypatch, Blind)  # type: ignore[arg-type]
    assert train(toy_recipe(tmp_path, "tracking.eval_every=1")) == 12
