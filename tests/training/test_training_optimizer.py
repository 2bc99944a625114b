from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import nn
from training_factories import toy_recipe

from lora_gen.errors import ConfigError
from training.config import LrSchedulerConfig, OptimizerConfig
from training.optimizer import build_optimizer, learning_rate


def _rates(steps: int, **schedule: Any) -> list[float]:
    recipe = toy_recipe(Path("runs/x"), max_steps=20, optimizer={"lr": 2.0}, lr_scheduler=schedule)
    return [learning_rate(step, recipe.run) for step in range(steps)]


def test_learning_rate_rises_linearly_in_the_warmup() -> None:
    assert _rates(5, schedule="constant", warmup_steps=4) == [0.5, 1.0, 1.5, 2.0, 2.0]


def test_learning_rate_cosine_falls_from_peak_to_the_final_ratio() -> None:
    rates = _rates(21, schedule="cosine", final_ratio=0.25)
    assert rates[0] == 2.0
    assert rates[10] == pytest.approx(1.25)
    assert rates[20] == pytest.approx(0.5)
    assert rates == sorted(rates, reverse=True)


def test_learning_rate_trapezoid_stays_and_then_falls_linearly() -> None:
    rates = _rates(21, schedule="trapezoid", fall_share=0.5, final_ratio=0.1)
    assert rates[:11] == [2.0] * 11
    assert rates[15] == pytest.approx(1.1)
    assert rates[20] == pytest.approx(0.2)


def test_learning_rate_trapezoid_is_the_same_in_a_longer_run_until_it_falls() -> None:
    schedule = {"schedule": "trapezoid", "warmup_steps": 3}
    assert _rates(12, **schedule) == _rates(40, **schedule)[:12]


def test_lr_scheduler_refuses_no_fall() -> None:
    with pytest.raises(ConfigError, match=r"`lr_scheduler.fall_share` is 0.0, but must lie in"):
        LrSchedulerConfig(fall_share=0.0)


def test_learning_rate_stays_at_the_end_after_max_steps() -> None:
    assert _rates(30, schedule="cosine", final_ratio=0.5)[-1] == pytest.approx(1.0)


def test_build_optimizer_decays_matrices_only() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    groups = build_optimizer(model, OptimizerConfig(weight_decay=0.3)).param_groups
    decays = {group["weight_decay"]: [p.ndim for p in group["params"]] for group in groups}
    assert decays == {0.3: [2], 0.0: [1, 1, 1]}


def test_build_optimizer_skips_frozen_parameters() -> None:
    model = nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    groups = build_optimizer(model, OptimizerConfig()).param_groups
    assert [p for group in groups for p in group["params"]] == [model.weight]


def _one_step(rate: float) -> tuple[nn.Linear, torch.Tensor, torch.Tensor]:
    """A layer after one step of Muon at a rate set afterwards, and what it was before."""
    torch.manual_seed(0)
    layer = nn.Linear(8, 4)
    optimizer = build_optimizer(layer, OptimizerConfig(name="muon", lr=1.0, weight_decay=0.0))
    prepared = Accelerator(cpu=True).prepare(optimizer)
    for group in optimizer.param_groups:
        group["lr"] = rate
    before = layer.weight.detach().clone(), layer.bias.detach().clone()
    layer(torch.randn(5, 8)).square().sum().backward()
    prepared.step()
    return layer, *before


def test_muon_moves_a_matrix_by_nearly_orthogonal_rows() -> None:
    layer, weight, _ = _one_step(0.01)
    singular = torch.linalg.svdvals(layer.weight.detach() - weight)
    assert singular.max() < 2.5 * singular.min()


def test_muon_moves_vectors_as_adamw_does() -> None:
    layer, _, bias = _one_step(0.01)
    step = (layer.bias.detach() - bias).abs()
    assert step.tolist() == pytest.approx([0.01] * 4, rel=1e-3)


def test_muon_obeys_a_rate_that_is_set_after_accelerate_prepared_it() -> None:
    layer, weight, bias = _one_step(0.0)
    assert torch.equal(layer.weight, weight)
    assert torch.equal(layer.bias, bias)
