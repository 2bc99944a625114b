from __future__ import annotations

import pytest
import torch
from generator_factories import perturb
from torch import Tensor, nn

from lora_gen.models.blocks import (
    CrossAttention,
    GatedRecurrence,
    Modulation,
    NoiseLevel,
    linear_scan,
)

LENGTHS = [1, 2, 3, 4, 5, 16, 17, 320]


def _loop(decay: Tensor, value: Tensor) -> Tensor:
    state, states = torch.zeros_like(value[:, 0]), []
    for n in range(value.shape[1]):
        state = decay[:, n] * state + value[:, n]
        states.append(state)
    return torch.stack(states, 1)


def _inputs(length: int) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(length)
    shape = (2, length, 3)
    decay = torch.rand(shape, generator=source, dtype=torch.float64)
    value = torch.randn(shape, generator=source, dtype=torch.float64)
    return decay.requires_grad_(), value.requires_grad_()


@pytest.mark.parametrize("length", LENGTHS)
def test_linear_scan_is_the_loop(length: int) -> None:
    decay, value = _inputs(length)
    torch.testing.assert_close(linear_scan(decay, value), _loop(decay, value))


@pytest.mark.parametrize("length", LENGTHS)
def test_linear_scan_has_the_gradients_of_the_loop(length: int) -> None:
    decay, value = _inputs(length)
    weights = torch.linspace(-1, 1, value.numel(), dtype=torch.float64).view_as(value)
    found, wanted = (
        torch.autograd.grad((f(decay, value) * weights).sum(), (decay, value))
        for f in (linear_scan, _loop)
    )
    torch.testing.assert_close(found, wanted)


def test_linear_scan_stays_finite_over_long_decays() -> None:
    decay = torch.tensor([0.0, 1.0, 1e-30]).expand(1, 2_000, 3)
    assert bool(linear_scan(decay, torch.ones(1, 2_000, 3)).isfinite().all())


@pytest.mark.parametrize("changed", [0, 3, 9])
def test_gated_recurrence_never_sees_a_later_token(changed: int) -> None:
    torch.manual_seed(0)
    block, x = GatedRecurrence(8), torch.randn(1, 10, 8)
    other = x.clone()
    other[:, changed] += 1
    before, after = block(x), block(other)
    torch.testing.assert_close(after[:, :changed], before[:, :changed])
    assert not torch.allclose(after[:, -1], before[:, -1])


def test_cross_attention_is_that_of_torch() -> None:
    torch.manual_seed(0)
    block, x, memory = CrossAttention(8, 2), torch.randn(2, 5, 8), torch.randn(2, 4, 8)
    mask = torch.tensor([[True, True, False, False], [True, True, True, True]])
    key, value = block.key_value(memory).chunk(2, -1)
    query, key, value = (t.view(2, -1, 2, 4).transpose(1, 2) for t in (block.query(x), key, value))
    read = nn.functional.scaled_dot_product_attention(query, key, value, mask[:, None, None])
    wanted = block.output(read.transpose(1, 2).reshape(2, 5, 8))
    torch.testing.assert_close(block(x, memory, mask), wanted)


def test_noise_level_tells_levels_apart() -> None:
    block = NoiseLevel(8)
    perturb(block)
    levels = block(torch.tensor([0.0, 0.001, 0.25, 0.5, 0.75, 1.0]))
    assert levels.shape == (6, 8)
    assert torch.pdist(levels).min() > 1e-3


def test_modulation_starts_as_a_plain_norm_with_an_open_gate() -> None:
    block, x = Modulation(8), torch.randn(2, 3, 8)
    shifted, gate = block(x, torch.randn(2, 8))
    torch.testing.assert_close(shifted, nn.functional.layer_norm(x, (8,)))
    torch.testing.assert_close(gate, torch.ones(2, 1, 8))
