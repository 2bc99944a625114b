from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import nn
from training_factories import toy_recipe

from training.config import OptimizerConfig
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
