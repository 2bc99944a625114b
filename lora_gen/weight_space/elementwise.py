"""Merges that look at single entries of the deltas (TIES, DARE), in blocks of rows.

Trimming, sign election and dropping are about entries of the delta weight, so they cannot be done
on factors. A large delta is still never built: rows are made a block at a time, merged, and met by
a randomized SVD that needs only products with the matrix. Memory for a module is
(adapters + 4) * BLOCK values beside (out + in) * (rank + OVERSAMPLING), whatever its size; a module
that fits one block is merged once and kept.

Shapes: N here counts adapters, K the columns of a sketch.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

import torch
from torch import Tensor

from lora_gen.weight_space.factors import Cut, Factors, Terms, cut

BLOCK = 2**20
"""Entries of one delta that are held at once: 8 MB in float64."""
OVERSAMPLING = 16
POWER_STEPS = 3
_BINS, _ROUNDS = 4096, 4

Rows = Callable[[], Iterable[Tensor]]
"""Blocks of rows of one matrix, in order; the same at every call."""


def ties(modules: Mapping[str, Terms], density: float, seed: int) -> Callable[[str], Cut]:
    """TIES: trim to the largest entries, elect a sign, average what agrees (Yadav et al. 2023).

    Trimming is over an adapter's whole task vector, as in the paper (2306.01708), not module by
    module. Of the entries that agree with the sign of the weighted sum, the mean of weight times
    entry is taken.
    """
    del seed
    thresholds_N = magnitude_thresholds(modules.values(), density)
    return _merger(modules, partial(_ties_rows, thresholds_N=thresholds_N))


def dare(modules: Mapping[str, Terms], density: float, seed: int) -> Callable[[str], Cut]:
    """DARE: keep each entry with probability `density`, rescaled, then add (Yu et al. 2024).

    The drop is over entries of the delta (2311.03099); a seed gives the same one in any gauge.
    """
    return _merger(modules, partial(_dare_rows, density=density, seed=seed))


def dare_ties(modules: Mapping[str, Terms], density: float, seed: int) -> Callable[[str], Cut]:
    """DARE's drop, then TIES' sign election on what is left."""
    return _merger(modules, partial(_dare_rows, density=density, seed=seed, elected=True))


def elect(values_NOI: Tensor, weights_N: Tensor) -> Tensor:
    """TIES' disjoint mean: of weight times value, over those with the sign of the weighted sum."""
    weighted_NOI = values_NOI * weights_N[:, None, None]
    agree_NOI = (weighted_NOI.sign() == weighted_NOI.sum(0).sign()) & (values_NOI != 0)
    return (weighted_NOI * agree_NOI).sum(0) / agree_NOI.sum(0).clamp_min(1)


def magnitude_thresholds(modules: Iterable[Terms], density: float) -> Tensor:
    """For each adapter, the magnitude that its `density` largest entries reach; (N,) float64.

    Found by counting in bins that are refined around the rank looked for, so no delta is stored.
    """
    found = list(modules)
    adapters = 1 + max(owner for terms in found for owner in terms.owners)
    sizes_N = torch.zeros(adapters, dtype=torch.float64)
    high_N = torch.zeros(adapters, dtype=torch.float64)
    for terms in found:
        for values_NOI in delta_rows(terms):
            for owner, values_OI in zip(terms.owners, values_NOI, strict=True):
                sizes_N[owner] += values_OI.numel()
                high_N[owner] = torch.maximum(high_N[owner], values_OI.abs().max())
    wanted_N = (sizes_N * density).round()
    low_N, above_N = torch.zeros_like(high_N), torch.zeros_like(high_N)
    high_N = high_N * (1 + 1e-12)
    for _ in range(_ROUNDS):
        counts_NK = _histograms(found, low_N, high_N)
        reached_NK = counts_NK.flip(1).cumsum(1).flip(1) + above_N[:, None]  # at or above each bin
        at_N = ((reached_NK >= wanted_N[:, None]).sum(1) - 1).clamp_min(0)
        rows = torch.arange(adapters)
        width_N = (high_N - low_N) / _BINS
        above_N = reached_NK[rows, at_N] - counts_NK[rows, at_N]
        low_N, high_N = low_N + at_N * width_N, low_N + (at_N + 1) * width_N
    return low_N * (1 - 1e-12)  # an entry on the edge of its bin is kept


def _histograms(modules: Iterable[Terms], low_N: Tensor, high_N: Tensor) -> Tensor:
    """Counts of magnitudes in equal bins from low to high, for each adapter; (N, bins)."""
    counts_NK = torch.zeros(len(low_N), _BINS, dtype=torch.float64)
    for terms in modules:
        for values_NOI in delta_rows(terms):
            for owner, values_OI in zip(terms.owners, values_NOI, strict=True):
                low, high = float(low_N[owner]), float(high_N[owner])
                if high > low:
                    counts_NK[owner] += torch.histc(values_OI.abs(), _BINS, low, high)
    return counts_NK


def delta_rows(terms: Terms) -> Iterator[Tensor]:
    """Blocks of rows of all deltas of a module, (N, rows, I)."""
    for start, stop in _bounds(*terms.shape):
        yield torch.stack([one.b[start:stop] @ one.a for one in terms.factors])


def low_rank_of_rows(rows: Rows, shape: tuple[int, int], rank: int, seed: int = 0) -> Cut:
    """The nearest matrix of a rank to one that is only seen in blocks of rows.

    A randomized range finder with power steps (Halko, Martinsson & Tropp 2011), exact where the
    sketch is as wide as the matrix.
    """
    out, width = shape[0], min(rank + OVERSAMPLING, *shape)
    source = torch.Generator().manual_seed(seed)
    sketch_IK = torch.randn(shape[1], width, generator=source, dtype=torch.float64)
    for step in range(POWER_STEPS + 1):
        basis_OK = torch.linalg.qr(torch.cat([block @ sketch_IK for block in rows()]))[0]
        sketch_IK = torch.zeros_like(sketch_IK)
        squared, start = 0.0, 0
        for block in rows():
            sketch_IK += block.mT @ basis_OK[start : start + len(block)]
            squared += float(block.square().sum())
            start += len(block)
        if step < POWER_STEPS:
            sketch_IK = torch.linalg.qr(sketch_IK)[0]
    assert start == out  # the blocks are the whole matrix
    near = Factors(sketch_IK.mT.contiguous(), basis_OK)
    inside = near.squared_norm()
    kept = cut(near, rank)
    return Cut(kept.factors, kept.squared_error + max(squared - inside, 0.0), squared)


def _merger(
    modules: Mapping[str, Terms], combine: Callable[[Terms, int, Tensor], Tensor]
) -> Callable[[str], Cut]:
    def merge(name: str) -> Cut:
        terms = modules[name]

        def rows() -> Iterator[Tensor]:
            starts = (start for start, _ in _bounds(*terms.shape))
            for start, values_NOI in zip(starts, delta_rows(terms), strict=True):
                yield combine(terms, start, values_NOI)

        if len(list(_bounds(*terms.shape))) == 1:
            kept = list(rows())
            return low_rank_of_rows(lambda: kept, terms.shape, terms.rank)
        return low_rank_of_rows(rows, terms.shape, terms.rank)

    return merge


def _ties_rows(terms: Terms, start: int, values_NOI: Tensor, *, thresholds_N: Tensor) -> Tensor:
    del start
    limits_N = thresholds_N[list(terms.owners)]
    trimmed_NOI = torch.where(values_NOI.abs() >= limits_N[:, None, None], values_NOI, 0.0)
    return elect(trimmed_NOI, _weights(terms))


def _dare_rows(
    terms: Terms,
    start: int,
    values_NOI: Tensor,
    *,
    density: float,
    seed: int,
    elected: bool = False,
) -> Tensor:
    kept_NOI = torch.empty_like(values_NOI)
    for i, owner in enumerate(terms.owners):
        # A draw of its own for every adapter and block, so that passes over the rows agree.
        name = zlib.crc32(f"{seed}/{terms.name}/{owner}/{start}".encode())
        source = torch.Generator().manual_seed(name)
        drawn_OI = torch.rand(values_NOI.shape[1:], generator=source, dtype=torch.float32)
        kept_NOI[i] = torch.where(drawn_OI < density, values_NOI[i] / density, 0.0)
    weights_N = _weights(terms)
    if elected:
        return elect(kept_NOI, weights_N)
    return (kept_NOI * weights_N[:, None, None]).sum(0)


def _weights(terms: Terms) -> Tensor:
    return torch.tensor(terms.weights, dtype=torch.float64)


def _bounds(out: int, width: int) -> Iterator[tuple[int, int]]:
    step = max(1, BLOCK // width)
    return ((start, min(start + step, out)) for start in range(0, out, step))
