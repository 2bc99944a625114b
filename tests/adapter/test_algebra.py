from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from adapter_factories import dense_delta, dense_vector, random_pair, small_adapter
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.algebra import (
    add,
    average,
    cosine,
    gram_matrix,
    inner_product,
    module_norms,
    norm,
    resize,
    scale,
    singular_values,
    truncate,
)
from lora_gen.errors import AdapterMismatchError, AdapterValueError

SEEDS = st.integers(0, 10_000)
RANKS = st.integers(1, 6)
QUICK = settings(max_examples=25, deadline=None)


def regauged(adapter: Adapter, seed: int) -> Adapter:
    """The same delta weights with other factors: B @ G and inv(G) @ A."""
    generator = torch.Generator().manual_seed(seed)
    pairs = {}
    for name, pair in adapter.pairs.items():
        noise = torch.randn(pair.rank, pair.rank, generator=generator, dtype=torch.float64)
        gauge = torch.linalg.qr(noise)[0] @ torch.diag(torch.linspace(0.5, 2, pair.rank).double())
        lora_a, lora_b = pair.matrices()
        pairs[name] = pair.with_matrices(
            torch.linalg.inv(gauge) @ lora_a, lora_b @ gauge, scaling=pair.scaling
        )
    return replace(adapter, pairs=pairs)


@QUICK
@given(SEEDS, SEEDS, RANKS, RANKS)
def test_inner_product_is_that_of_the_dense_deltas(left, right, rank_left, rank_right):
    a, b = small_adapter(left, rank=rank_left), small_adapter(right, rank=rank_right)
    expected = float(dense_vector(a) @ dense_vector(b))
    assert inner_product(a, b) == pytest.approx(expected, abs=1e-9)
    assert norm(a) == pytest.approx(float(dense_vector(a).norm()))


@QUICK
@given(SEEDS, SEEDS, RANKS)
def test_algebra_does_not_see_the_gauge(seed, gauge_seed, rank):
    adapter, other = small_adapter(seed, rank=rank), small_adapter(seed + 1)
    same = regauged(adapter, gauge_seed)
    assert norm(same) == pytest.approx(norm(adapter))
    assert inner_product(same, other) == pytest.approx(inner_product(adapter, other), abs=1e-9)
    assert cosine(same, adapter) == pytest.approx(1)
    torch.testing.assert_close(
        dense_vector(truncate(same, 2)), dense_vector(truncate(adapter, 2)), atol=1e-8, rtol=1e-8
    )
    for name, values in singular_values(adapter).items():
        torch.testing.assert_close(singular_values(same)[name], values)


@QUICK
@given(SEEDS, SEEDS, st.floats(-3, 3), st.floats(-3, 3))
def test_sum_is_the_sum_of_the_dense_deltas(left, right, weight_left, weight_right):
    a, b = small_adapter(left, rank=2), small_adapter(right, rank=4)
    total = add([a, b], [weight_left, weight_right])
    expected = weight_left * dense_vector(a) + weight_right * dense_vector(b)
    torch.testing.assert_close(dense_vector(total), expected)
    assert total.max_rank == 6


@QUICK
@given(SEEDS, RANKS, RANKS)
def test_truncation_is_the_best_of_its_rank(seed, rank, kept):
    adapter = small_adapter(seed, rank=rank)
    cut = truncate(adapter, kept)
    assert cut.max_rank <= kept
    for name, pair in cut.pairs.items():
        values = torch.linalg.svdvals(dense_delta(adapter.pairs[name]))
        error = (dense_delta(adapter.pairs[name]) - dense_delta(pair)).norm()
        assert float(error) == pytest.approx(float(values[kept:].norm()), abs=1e-9)


@QUICK
@given(SEEDS, RANKS, st.integers(0, 5))
def test_padding_never_changes_the_delta(seed, rank, more):
    adapter = small_adapter(seed, rank=rank)
    padded = resize(adapter, rank + more)
    assert {pair.rank for pair in padded.pairs.values()} == {rank + more}
    torch.testing.assert_close(dense_vector(padded), dense_vector(adapter))


@QUICK
@given(SEEDS)
def test_gram_matrix_is_symmetric_and_positive(seed):
    adapters = [small_adapter(seed + i, rank=1 + i) for i in range(3)]
    gram = gram_matrix(adapters)
    torch.testing.assert_close(gram, gram.T)
    assert float(torch.linalg.eigvalsh(gram).min()) > -1e-9


def test_absent_modules_count_as_zero():
    whole, part = small_adapter(1), small_adapter(1, modules=1)
    assert inner_product(whole, part) == pytest.approx(norm(part) ** 2)
    mean = average([whole, replace(part, pairs={})])
    torch.testing.assert_close(dense_vector(mean), dense_vector(whole) / 2)


def test_convolutions_keep_their_kernel():
    lora_a, lora_b = torch.randn(4, 3, 3, 3), torch.randn(5, 4, 1, 1)
    pair = replace(random_pair(1, 1, 4), lora_a=lora_a, lora_b=lora_b)
    adapter = Adapter(pairs={"conv": pair})
    cut = resize(truncate(adapter, 2), 3).pairs["conv"]
    assert tuple(cut.lora_a.shape) == (3, 3, 3, 3)
    assert tuple(cut.lora_b.shape) == (5, 3, 1, 1)
    assert norm(add([adapter, adapter])) == pytest.approx(2 * norm(adapter))


def test_resize_beyond_the_modules_size_pads():
    adapter = Adapter(pairs={"q": random_pair(2, 3, 8)})
    assert resize(adapter, 4).pairs["q"].rank == 4
    torch.testing.assert_close(
        dense_vector(resize(adapter, 4)), dense_vector(adapter), atol=1e-6, rtol=1e-5
    )


def test_factors_keep_their_dtype():
    half = Adapter(pairs={"q": replace(random_pair(6, 6, 4), lora_a=torch.ones(4, 6).half())})
    assert truncate(half, 2).pairs["q"].lora_a.dtype == torch.float16


def test_scale_multiplies_the_delta():
    adapter = small_adapter(3)
    torch.testing.assert_close(dense_vector(scale(adapter, -2.0)), -2 * dense_vector(adapter))
    assert set(module_norms(adapter)) == set(adapter.pairs)


def test_cosine_refuses_an_adapter_without_effect():
    adapter = small_adapter(1)
    with pytest.raises(AdapterValueError, match="zero delta weight, so a cosine with it is not"):
        cosine(adapter, scale(adapter, 0.0))


def test_algebra_refuses_modules_of_other_shapes():
    left, right = Adapter(pairs={"q": random_pair(4, 4)}), Adapter(pairs={"q": random_pair(4, 5)})
    with pytest.raises(AdapterMismatchError, match="`q` has different shapes in the adapters"):
        inner_product(left, right)


def test_sum_refuses_other_bases_and_weights():
    left, right = small_adapter(1), replace(small_adapter(2), base="acme/other")
    with pytest.raises(AdapterMismatchError, match="`acme/other` and `acme/tiny` are different"):
        add([left, right])
    with pytest.raises(AdapterMismatchError, match="has 2 for 1"):
        add([left], [1.0, 2.0])
    with pytest.raises(AdapterMismatchError, match="has 0 for 0"):
        average([])


def test_truncation_refuses_rank_zero():
    with pytest.raises(AdapterValueError, match="`rank` is 0, and must be at least 1"):
        truncate(small_adapter(1), 0)
