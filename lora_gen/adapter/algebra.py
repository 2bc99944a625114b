"""Algebra of adapters on delta weights, through r-by-r cores; a dense delta weight is never built.

(B @ G, inv(G) @ A) is the same adapter for every invertible G, so nothing here depends on the
factors themselves. A module that an adapter lacks counts as a zero delta. Results are computed in
float64; adapters come back in the dtype of their factors.

Shapes: M rows of one adapter's rank in a stack, that is adapters times rank.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lora_gen.adapter.adapter import Adapter, LoraPair
from lora_gen.adapter.profile import padded
from lora_gen.adapter.stack import AdapterStack, factors_of, require_same_module
from lora_gen.errors import AdapterMismatchError, AdapterValueError


def gram_matrix(adapters: Sequence[Adapter]) -> Tensor:
    """Frobenius inner products of all delta weights with each other, (B, B) float64.

    Raises:
        AdapterMismatchError: Adapters disagree on the shape of a module.
    """
    return cross_gram(adapters, adapters)


def cross_gram(left: Sequence[Adapter], right: Sequence[Adapter]) -> Tensor:
    """Frobenius inner products of `left`'s delta weights with `right`'s, (left, right) float64.

    Large zoos go through it in blocks; what is compared again and again is an `AdapterStack`.

    Raises:
        AdapterMismatchError: Adapters disagree on the shape of a module.
    """
    stacked = AdapterStack(left)
    return stacked.inner_products(stacked if right is left else AdapterStack(right))


def inner_product(left: Adapter, right: Adapter) -> float:
    """Frobenius inner product of the delta weights, summed over modules.

    Raises:
        AdapterMismatchError: The adapters disagree on the shape of a module.
    """
    return float(gram_matrix([left, right])[0, 1])


def norm(adapter: Adapter) -> float:
    """Frobenius norm of all delta weights together."""
    return math.sqrt(max(float(gram_matrix([adapter])[0, 0]), 0.0))


def module_norms(adapter: Adapter) -> dict[str, float]:
    """Frobenius norm of each module's delta weight."""
    return {name: norm(replace(adapter, pairs={name: p})) for name, p in adapter.pairs.items()}


def cosine(left: Adapter, right: Adapter) -> float:
    """Cosine between the delta weights, in [-1, 1].

    Raises:
        AdapterMismatchError: The adapters disagree on the shape of a module.
        AdapterValueError: One of them has no effect, so it has no direction.
    """
    gram_BB = gram_matrix([left, right])
    lengths = float(gram_BB[0, 0].clamp_min(0).sqrt() * gram_BB[1, 1].clamp_min(0).sqrt())
    if not lengths > 0:
        raise AdapterValueError(
            "One of the adapters has a zero delta weight, so a cosine with it is not defined. "
            "Compare norms instead."
        )
    return min(1.0, max(-1.0, float(gram_BB[0, 1]) / lengths))


def add(adapters: Sequence[Adapter], weights: Sequence[float] | None = None) -> Adapter:
    """The adapter whose delta weight is the weighted sum; ranks add up, `truncate` reduces them.

    Args:
        adapters: At least one; base, revision and task type are the first one's.
        weights: A factor for each; 1 by default.

    Raises:
        AdapterMismatchError: No adapters, another number of weights, other bases, or other module
            shapes.
    """
    factors = [1.0] * len(adapters) if weights is None else list(weights)
    if not adapters or len(factors) != len(adapters):
        raise AdapterMismatchError(
            f"A sum needs one weight for each adapter, but has {len(factors)} for {len(adapters)}. "
            "Pass at least one "
            "adapter and as many weights."
        )
    bases = sorted({adapter.base for adapter in adapters if adapter.base is not None})
    if len(bases) > 1:
        raise AdapterMismatchError(
            f"`{bases[0]}` and `{bases[1]}` are different bases. Add adapters of one base only."
        )
    names = sorted({name for adapter in adapters for name in adapter.pairs})
    terms = {
        name: [
            (a.pairs[name], w) for a, w in zip(adapters, factors, strict=True) if name in a.pairs
        ]
        for name in names
    }
    return replace(
        adapters[0], pairs={name: _sum_pairs(name, found) for name, found in terms.items()}
    )


def average(adapters: Sequence[Adapter]) -> Adapter:
    """The adapter whose delta weight is the mean; ranks add up, `truncate` reduces them.

    Raises:
        AdapterMismatchError: As `add`.
    """
    return add(adapters, [1.0 / max(len(adapters), 1)] * len(adapters))


def scale(adapter: Adapter, factor: float) -> Adapter:
    """The adapter with its delta weight multiplied by `factor`."""
    pairs = {name: replace(p, scaling=p.scaling * factor) for name, p in adapter.pairs.items()}
    return replace(adapter, pairs=pairs)


def keep_components(adapter: Adapter, count: int) -> Adapter:
    """The adapter with its first components alone, at the same rank: the other rows of B are 0."""
    pairs = {}
    for name, pair in adapter.pairs.items():
        lora_b = pair.lora_b.clone()
        lora_b[:, count:] = 0
        pairs[name] = replace(pair, lora_b=lora_b)
    return replace(adapter, pairs=pairs)


def truncate(adapter: Adapter, rank: int) -> Adapter:
    """The nearest adapter (Frobenius) with at most `rank`; pairs within it are kept as they are.

    Raises:
        AdapterValueError: `rank` is below 1.
    """
    _require_rank(rank)
    pairs = {
        name: pair if pair.rank <= rank else _truncate_pair(pair, rank)
        for name, pair in adapter.pairs.items()
    }
    return replace(adapter, pairs=pairs)


def resize(adapter: Adapter, rank: int) -> Adapter:
    """The adapter at exactly `rank`: truncated where higher, zero-padded (same delta) where lower.

    Raises:
        AdapterValueError: `rank` is below 1.
    """
    cut = truncate(adapter, rank)
    return replace(cut, pairs={name: padded(pair, rank) for name, pair in cut.pairs.items()})


def singular_values(adapter: Adapter) -> Mapping[str, Tensor]:
    """Singular values of each module's delta weight, largest first, float64."""
    return {name: _singular_values(pair) for name, pair in adapter.pairs.items()}


def _singular_values(pair: LoraPair) -> Tensor:
    """Without the vectors, which take four fifths of a thin SVD's time."""
    a_RI, b_OR = factors_of(pair)
    (_, left_RR), (_, right_RR) = (torch.linalg.qr(x, mode="r") for x in (b_OR, a_RI.mT))
    values_R: Tensor = torch.linalg.svdvals(left_RR @ right_RR.mT)
    return values_R


def _sum_pairs(name: str, terms: Sequence[tuple[LoraPair, float]]) -> LoraPair:
    require_same_module(name, [pair for pair, _ in terms])
    first = terms[0][0]
    a_MI = torch.cat([factors_of(pair)[0] for pair, _ in terms])
    b_OM = torch.cat([factors_of(pair)[1] * weight for pair, weight in terms], dim=1)
    return first.with_matrices(a_MI.to(first.lora_a.dtype), b_OM.to(first.lora_b.dtype))


def core_svd(pair: LoraPair) -> tuple[Tensor, Tensor, Tensor]:
    """Thin SVD of the delta weight: U (out, R), S (R), V (in, R), by QR and an r-by-r SVD."""
    a_RI, b_OR = factors_of(pair)
    q_OR, left_RR = torch.linalg.qr(b_OR)
    p_IR, right_RR = torch.linalg.qr(a_RI.mT)
    u_RR, s_R, vh_RR = torch.linalg.svd(left_RR @ right_RR.mT, full_matrices=False)
    return q_OR @ u_RR, s_R, p_IR @ vh_RR.mT


def _truncate_pair(pair: LoraPair, rank: int) -> LoraPair:
    u_OR, s_R, v_IR = core_svd(pair)
    kept = min(rank, s_R.numel())
    root_R = s_R[:kept].sqrt()
    b_OR, a_RI = u_OR[:, :kept] * root_R, (v_IR[:, :kept] * root_R).mT
    cut = pair.with_matrices(a_RI.to(pair.lora_a.dtype), b_OR.to(pair.lora_b.dtype))
    return padded(cut, rank) if kept < rank else cut


def _require_rank(rank: int) -> None:
    if rank < 1:
        raise AdapterValueError(f"`rank` is {rank}, and must be at least 1.")
