"""The Fréchet mean of deltas on the quotient manifold of fixed-rank matrices.

A delta of rank r in balanced gauge is one matrix Z = [B; A^T] of (O + I) x r up to an orthogonal
r x r matrix, since B^T B = A A^T leaves only O(r) of GL(r). On that quotient the distance is
min_Q |Z - Z' Q| (Procrustes; the Bures-Wasserstein distance of Z Z^T), geodesics are straight lines
between aligned representatives, and the mean is the fixed point of "align all, then average".
A mean of balanced frames is itself balanced to first order in their distance.
Everything runs on the r x r products Z_i^T Z_j.

Shapes: N adapters, R their padded rank.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lora_gen.weight_space.factors import Cut, Factors, Terms, cut, svd_of

_STEPS, _STOP = 200, 1e-13


def geodesic(terms: Terms) -> Cut:
    """The weighted Fréchet mean times the sum of the weights, at the largest rank of the inputs.

    Unlike a mean of factors it does not depend on any gauge; unlike a mean of deltas its rank does
    not grow. Balanced factors of orthogonal deltas have nothing to align, and then half of the mean
    is cross terms: it is for adapters that are near each other.
    """
    rank = max(one.rank for one in terms.factors)
    frames = [_balanced(one, rank) for one in terms.factors]
    a_NRI, b_NOR = torch.stack([f.a for f in frames]), torch.stack([f.b for f in frames])
    turns_NRR = _aligned(_grams(a_NRI, b_NOR), torch.tensor(terms.weights, dtype=torch.float64))
    a_RI = torch.einsum("nrs,nri->si", turns_NRR, a_NRI)
    b_OR = torch.einsum("nor,nrs->os", b_NOR, turns_NRR)
    # Both sides are weighted sums, that is total times the mean; one total too many for the delta.
    return cut(Factors(a_RI / terms.total, b_OR), terms.rank)


def _balanced(factors: Factors, rank: int) -> Factors:
    u_OR, s_R, v_IR = svd_of(factors)
    root_R = s_R.sqrt()
    missing = rank - s_R.numel()
    b_OR = torch.nn.functional.pad(u_OR * root_R, (0, missing))
    return Factors(torch.nn.functional.pad(v_IR * root_R, (0, missing)).mT, b_OR)


def _grams(a_NRI: Tensor, b_NOR: Tensor) -> Tensor:
    """Z_i^T Z_j for all pairs, (N, N, R, R)."""
    b_NNRR = torch.einsum("nor,mos->nmrs", b_NOR, b_NOR)
    return b_NNRR + torch.einsum("nri,msi->nmrs", a_NRI, a_NRI)


def _aligned(grams_NNRR: Tensor, weights_N: Tensor) -> Tensor:
    """w_i Q_i of the mean: Q_i turns Z_i towards the mean of all turned ones; (N, R, R)."""
    count, rank = grams_NNRR.shape[0], grams_NNRR.shape[-1]
    first = int(grams_NNRR.diagonal(0, 0, 1).diagonal(0, 0, 1).sum(-1).mul(weights_N).argmax())
    turns_NRR = torch.eye(rank, dtype=torch.float64).repeat(count, 1, 1)
    turns_NRR = torch.where(torch.arange(count)[:, None, None] == first, turns_NRR, 0.0)
    weighted_NRR = turns_NRR
    for _ in range(_STEPS):
        towards_NRR = torch.einsum("nmrs,mst->nrt", grams_NNRR, weighted_NRR)
        u, _, vh = torch.linalg.svd(towards_NRR)
        moved_NRR = u @ vh
        change = float((moved_NRR - turns_NRR).abs().max())
        turns_NRR = moved_NRR
        weighted_NRR = turns_NRR * weights_N[:, None, None]
        if change < _STOP:
            break
    return weighted_NRR
