"""One module's delta weight as two float64 factors, and its cut to a rank with the error known.

Shapes: M components of all adapters together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lora_gen.adapter.adapter import LoraPair
from lora_gen.adapter.algebra import core_svd


class Factors(NamedTuple):
    """delta = b @ a, float64, scaling folded into b."""

    a: Tensor
    """(R, I)"""
    b: Tensor
    """(O, R)"""

    @property
    def rank(self) -> int:
        """Number of components, zero ones included."""
        return int(self.a.shape[0])

    def squared_norm(self) -> float:
        """Squared Frobenius norm of the delta, from r x r Gram matrices."""
        return max(float(((self.a @ self.a.mT) * (self.b.mT @ self.b)).sum()), 0.0)


class Cut(NamedTuple):
    """Factors at a rank, and what cutting them dropped."""

    factors: Factors
    squared_error: float
    squared_norm: float
    """Of the delta before the cut."""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """One module of several adapters; an adapter without the module counts as a zero delta."""

    name: str
    factors: tuple[Factors, ...]
    weights: tuple[float, ...]
    owners: tuple[int, ...]
    """Number of the adapter that each factor is of."""
    total: float
    """Sum of all adapters' weights, those without the module included."""
    rank: int
    """Largest rank of the result."""

    @property
    def shape(self) -> tuple[int, int]:
        """(O, I)."""
        return int(self.factors[0].b.shape[0]), int(self.factors[0].a.shape[1])


def factors_of(pair: LoraPair) -> Factors:
    """The pair's factors as float64 matrices, scaling in b."""
    a_RI, b_OR = pair.matrices()
    return Factors(a_RI.detach().double(), b_OR.detach().double() * pair.scaling)


def svd_of(factors: Factors) -> tuple[Tensor, Tensor, Tensor]:
    """Thin SVD of the delta: U (O, R), S (R), V (I, R), without ever building the delta."""
    return core_svd(LoraPair(lora_a=factors.a, lora_b=factors.b))


def joined(factors: Sequence[Factors], weights: Sequence[float]) -> Factors:
    """The weighted sum of deltas, exactly: components side by side."""
    return Factors(
        torch.cat([one.a for one in factors]),
        torch.cat([one.b * w for one, w in zip(factors, weights, strict=True)], dim=1),
    )


def cut(factors: Factors, rank: int) -> Cut:
    """The nearest factors (Frobenius) with at most `rank`; within it they are kept as they are."""
    total = factors.squared_norm()
    if factors.rank <= rank:
        return Cut(factors, 0.0, total)
    u_OR, s_R, v_IR = svd_of(factors)
    kept = min(rank, s_R.numel())
    root_R = s_R[:kept].sqrt()
    near = Factors((v_IR[:, :kept] * root_R).mT, u_OR[:, :kept] * root_R)
    return Cut(near, float(s_R[kept:].square().sum()), total)


def relative_error(squared_error: float, squared_norm: float) -> float:
    """Root of their ratio; 0 for a zero delta, which every rank holds."""
    return math.sqrt(max(squared_error, 0.0) / squared_norm) if squared_norm > 0 else 0.0


def pair_like(pair: LoraPair, factors: Factors) -> LoraPair:
    """The factors as a pair with the module's own kernel shape, in at least float32."""
    dtype = torch.promote_types(pair.lora_a.dtype, torch.float32)
    return pair.with_matrices(
        factors.a.to(dtype).contiguous(), factors.b.to(dtype).contiguous(), scaling=1.0
    )
