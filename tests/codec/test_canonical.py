from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from adapter_factories import dense_delta, random_pair, small_adapter
from torch import Tensor

from lora_gen.adapter.adapter import Adapter, LoraPair
from lora_gen.adapter.algebra import resize
from lora_gen.codec.canonical import canonicalize, canonicalize_pair
from lora_gen.errors import AdapterValueError

SHAPES = [(5, 7, 1), (5, 7, 3), (6, 4, 4), (3, 9, 5), (1, 1, 2)]
"""out, in, rank; the last two have more rank than the shapes allow."""


def _double(pair: LoraPair) -> LoraPair:
    return replace(pair, lora_a=pair.lora_a.double(), lora_b=pair.lora_b.double())


def _gauge(rank: int, seed: int) -> Tensor:
    """A random invertible matrix, up to 100 times longer one way than another."""
    source = torch.Generator().manual_seed(seed)
    u, _ = torch.linalg.qr(torch.randn(rank, rank, generator=source, dtype=torch.float64))
    v, _ = torch.linalg.qr(torch.randn(rank, rank, generator=source, dtype=torch.float64))
    return u * torch.logspace(-1, 1, rank, dtype=torch.float64) @ v


def _assert_equal(left: LoraPair, right: LoraPair, tolerance: float = 1e-6) -> None:
    torch.testing.assert_close(left.lora_a, right.lora_a, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(left.lora_b, right.lora_b, atol=tolerance, rtol=tolerance)
    assert left.scaling == right.scaling


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shape", SHAPES)
def test_canonicalize_is_equal_in_every_gauge(shape: tuple[int, int, int], seed: int) -> None:
    pair = _double(random_pair(*shape, seed=seed, scaling=1.5))
    g = _gauge(shape[2], seed)
    other = replace(pair, lora_a=torch.linalg.inv(g) @ pair.lora_a, lora_b=pair.lora_b @ g)
    _assert_equal(canonicalize_pair(pair), canonicalize_pair(other))


@pytest.mark.parametrize("shape", SHAPES)
def test_canonicalize_keeps_delta_shape_and_dtype(shape: tuple[int, int, int]) -> None:
    pair = random_pair(*shape, scaling=2.0)
    found = canonicalize_pair(pair)
    torch.testing.assert_close(dense_delta(found), dense_delta(pair), atol=1e-5, rtol=1e-5)
    assert (found.lora_a.shape, found.lora_b.shape) == (pair.lora_a.shape, pair.lora_b.shape)
    assert (found.lora_a.dtype, found.scaling) == (torch.float32, 1.0)


@pytest.mark.parametrize("shape", SHAPES)
def test_canonicalize_is_idempotent(shape: tuple[int, int, int]) -> None:
    once = canonicalize_pair(_double(random_pair(*shape, scaling=0.3)))
    _assert_equal(canonicalize_pair(once), once)


def test_canonicalize_does_not_see_how_alpha_is_folded() -> None:
    pair = _double(random_pair(5, 7, 3, scaling=4.0))
    into_a = replace(pair, lora_a=pair.lora_a * 4, scaling=1.0)
    _assert_equal(canonicalize_pair(pair), canonicalize_pair(pair.folded()))
    _assert_equal(canonicalize_pair(pair), canonicalize_pair(into_a))


def test_canonicalize_of_padded_rank_adds_exact_zeros() -> None:
    adapter = small_adapter(rank=2)
    small, large = canonicalize(adapter), canonicalize(resize(adapter, 4))
    for name, pair in large.pairs.items():
        assert not pair.lora_a[2:].any()
        assert not pair.lora_b[:, 2:].any()
        first = replace(pair, lora_a=pair.lora_a[:2], lora_b=pair.lora_b[:, :2])
        _assert_equal(first, small.pairs[name])


def test_canonicalize_shares_singular_values_evenly_largest_first() -> None:
    pair = canonicalize_pair(_double(random_pair(6, 8, 3)))
    values = torch.linalg.svdvals(dense_delta(pair))[:3]
    torch.testing.assert_close(pair.lora_a.square().sum(1), values)
    torch.testing.assert_close(pair.lora_b.square().sum(0), values)
    assert bool((pair.lora_b.sum(0) >= 0).all())


def test_canonicalize_keeps_zero_at_zero() -> None:
    pair = random_pair(4, 5, 2)
    found = canonicalize_pair(replace(pair, lora_b=torch.zeros_like(pair.lora_b)))
    assert not found.lora_a.any()
    assert not found.lora_b.any()


def test_canonicalize_keeps_the_kernel_of_a_convolution() -> None:
    pair = LoraPair(lora_a=torch.randn(2, 3, 3, 3), lora_b=torch.randn(4, 2, 1, 1), scaling=2.0)
    found = canonicalize_pair(pair)
    assert (found.lora_a.shape, found.lora_b.shape) == ((2, 3, 3, 3), (4, 2, 1, 1))
    torch.testing.assert_close(dense_delta(found), dense_delta(pair), atol=1e-5, rtol=1e-5)


def test_canonicalize_refuses_values_that_are_not_finite() -> None:
    pair = random_pair(3, 3, 1)
    pair.lora_b[0, 0] = torch.nan
    with pytest.raises(AdapterValueError, match=r"`q\.lora_B` has 1 values of 3 that are NaN or"):
        canonicalize(Adapter(pairs={"q": pair}))
