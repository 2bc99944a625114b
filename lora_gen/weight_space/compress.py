"""An adapter at a smaller rank or with a share of its energy, by r x r cores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from lora_gen.adapter.adapter import Adapter, LoraPair
from lora_gen.adapter.algebra import singular_values
from lora_gen.errors import AdapterValueError, ConfigError
from lora_gen.weight_space.factors import cut, factors_of, pair_like, relative_error


@dataclass(frozen=True, kw_only=True)
class Compressed:
    """A smaller adapter, and how far it is from the one it was made of."""

    adapter: Adapter
    error: float
    """Frobenius norm of what was cut, relative to the whole adapter."""
    ranks: Mapping[str, int]
    """Rank of every module."""


def compress_adapter(
    adapter: Adapter, *, rank: int | None = None, energy: float | None = None
) -> Compressed:
    """The nearest adapter (Frobenius) at a rank, or the smallest that keeps a share of energy.

    With `energy` ranks differ between modules: over the whole adapter those components are kept
    that carry most energy for the values they cost, at least one a module. A dense delta weight is
    never built: two QR factorizations and one r x r SVD a module. Factors keep their precision:
    what was bfloat16 comes back as bfloat16.

    Args:
        adapter: What to compress; it is not changed.
        rank: Largest rank of every module.
        energy: Share of the squared norm to keep, above 0 and at most 1.

    Raises:
        ConfigError: Neither or both of `rank` and `energy` are given, or `energy` is out of range.
        AdapterValueError: `rank` is below 1.
    """
    if (rank is None) == (energy is None):
        raise ConfigError("Compression needs one of `rank` and `energy`. Pass exactly one.")
    if rank is not None and rank < 1:
        raise AdapterValueError(f"`rank` is {rank}, and must be at least 1.")
    if energy is not None and not 0 < energy <= 1:
        raise ConfigError(f"`energy` is {energy:g}, and must be above 0 and at most 1.")
    if rank is not None:
        ranks = dict.fromkeys(adapter.pairs, rank)
    else:
        ranks = energy_ranks(adapter, energy or 1.0)
    pairs, lost, total = {}, 0.0, 0.0
    for name, pair in adapter.pairs.items():
        found = cut(factors_of(pair), ranks[name])
        kept = found.factors.rank < pair.rank
        pairs[name] = _as_precise(pair_like(pair, found.factors), pair) if kept else pair
        lost, total = lost + found.squared_error, total + found.squared_norm
    return Compressed(
        adapter=replace(adapter, pairs=pairs),
        error=relative_error(lost, total),
        ranks={name: pair.rank for name, pair in pairs.items()},
    )


def _as_precise(pair: LoraPair, before: LoraPair) -> LoraPair:
    """The pair in the precision that the module had, unless a value is too large for it."""
    a_RI, b_OR = pair.lora_a.to(before.lora_a.dtype), pair.lora_b.to(before.lora_b.dtype)
    is_finite = bool(torch.isfinite(a_RI).all() and torch.isfinite(b_OR).all())
    return replace(pair, lora_a=a_RI, lora_b=b_OR) if is_finite else pair


def energy_ranks(adapter: Adapter, energy: float) -> dict[str, int]:
    """Rank of each module so that `energy` of the squared norm is kept with the fewest values.

    A component of a module costs out + in values; components are taken by energy a value. Within a
    module that order is by singular value, so what is kept is always a leading part.
    """
    shares, owners = [], []
    names = list(adapter.pairs)
    for number, (name, values_R) in enumerate(singular_values(adapter).items()):
        pair = adapter.pairs[name]
        cost = pair.in_features + pair.out_features
        for value in values_R.tolist():
            shares.append((value**2 / cost, value**2))
            owners.append(number)
    ranks = dict.fromkeys(names, 1)
    taken = torch.zeros(len(names), dtype=torch.int64)
    wanted, kept = energy * sum(square for _, square in shares), 0.0
    for index in sorted(range(len(shares)), key=lambda i: -shares[i][0]):
        if kept >= wanted * (1 - 1e-12):
            break
        kept += shares[index][1]
        taken[owners[index]] += 1
    for number, name in enumerate(names):
        ranks[name] = max(1, int(taken[number]))
    return ranks
