from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.order import batch_positions, derive_seed


def _stream(batches: int, batch_size: int, length: int, seed: int = 0) -> list[int]:
    parts = [
        batch_positions(i, batch_size=batch_size, length=length, seed=seed) for i in range(batches)
    ]
    return torch.cat(parts).tolist()


@settings(max_examples=50, deadline=None)
@given(batch_size=st.integers(1, 9), length=st.integers(1, 9), seed=st.integers(0, 99))
def test_batch_positions_visit_every_example_once_an_epoch(
    batch_size: int, length: int, seed: int
) -> None:
    epochs = 3
    stream = _stream(-(-epochs * length // batch_size), batch_size, length, seed)
    for epoch in range(epochs):
        assert sorted(stream[epoch * length : (epoch + 1) * length]) == list(range(length))


@settings(max_examples=50, deadline=None)
@given(batch_size=st.integers(1, 9), length=st.integers(1, 9), index=st.integers(0, 50))
def test_batch_positions_have_the_batch_size(batch_size: int, length: int, index: int) -> None:
    positions = batch_positions(index, batch_size=batch_size, length=length, seed=0)
    assert positions.shape == (batch_size,)
    assert positions.dtype == torch.int64


def test_batch_positions_do_not_depend_on_the_batch_size() -> None:
    assert _stream(12, 5, 20) == _stream(20, 3, 20)


@pytest.mark.parametrize("other", [{"seed": 1}, {"epoch": 1}])
def test_batch_positions_change_with_seed_and_epoch(other: dict[str, int]) -> None:
    first = _stream(1, 50, 50)
    again = batch_positions(
        other.get("epoch", 0), batch_size=50, length=50, seed=other.get("seed", 0)
    )
    assert first != again.tolist()


def test_derive_seed_separates_paths() -> None:
    seeds = {derive_seed(s, stream, i) for s in (0, 1) for stream in "ab" for i in range(100)}
    assert len(seeds) == 400
    assert all(0 <= seed < 2**63 for seed in seeds)
