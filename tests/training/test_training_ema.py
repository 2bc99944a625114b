from __future__ import annotations

import pytest
import torch
from torch import nn

from training.config import EmaConfig
from training.ema import Ema


def _moved(ema: Ema, model: nn.Linear, *, steps: int) -> list[torch.Tensor]:
    seen = []
    for step in range(1, steps + 1):
        with torch.no_grad():
            model.weight.fill_(float(step))
        ema.update(step)
        seen.append(model.weight.detach().clone())
    return seen


def test_ema_is_the_geometric_mean_of_past_weights() -> None:
    model = nn.Linear(2, 2)
    start = model.weight.detach().clone()
    ema = Ema(model, EmaConfig(decay=0.9, warmup=False))
    _moved(ema, model, steps=2)
    expected = 0.9 * (0.9 * start + 0.1 * 1.0) + 0.1 * 2.0
    torch.testing.assert_close(ema.state_dict()["weight"], expected)


def test_ema_equals_the_weights_when_decay_is_zero() -> None:
    model = nn.Linear(2, 2)
    ema = Ema(model, EmaConfig(decay=0.0))
    _moved(ema, model, steps=3)
    assert torch.equal(ema.state_dict()["weight"], model.weight)


def test_ema_warmup_forgets_the_initial_weights() -> None:
    model = nn.Linear(1, 1)
    with torch.no_grad():
        model.weight.fill_(1000.0)
    ema = Ema(model, EmaConfig(decay=0.9999, warmup=True))
    with torch.no_grad():
        model.weight.fill_(0.0)
    for step in range(1, 200):
        ema.update(step)
    assert ema.state_dict()["weight"].item() < 1e-3


def test_ema_applied_swaps_and_puts_back_bit_for_bit() -> None:
    model = nn.Linear(3, 3)
    ema = Ema(model, EmaConfig(decay=0.5, warmup=False))
    _moved(ema, model, steps=2)
    own, average = model.weight.detach().clone(), ema.state_dict()["weight"].clone()
    with ema.applied():
        assert torch.equal(model.weight, average)
    assert torch.equal(model.weight, own)
    assert torch.equal(ema.state_dict()["weight"], average)


def test_ema_applied_puts_back_when_the_block_fails() -> None:
    model = nn.Linear(3, 3)
    ema = Ema(model, EmaConfig(decay=0.5, warmup=False))
    _moved(ema, model, steps=1)
    own = model.weight.detach().clone()
    with pytest.raises(KeyError, match="inside"), ema.applied():
        raise KeyError("inside")
    assert torch.equal(model.weight, own)


def test_ema_leaves_frozen_parameters_alone() -> None:
    model = nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    assert set(Ema(model, EmaConfig()).state_dict()) == {"weight"}
