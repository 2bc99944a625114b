"""Changes that leave what an adapter does nearly as it is: what encoders and generators train on.

All of them act on delta weights: an adapter in another gauge is changed in the same way, up to the
random draw. The gauge itself needs no augmentation, since it is divided out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.algebra import norm, scale, truncate
from lora_gen.codec.canonical import canonicalize_pair
from lora_gen.errors import ConfigError
from lora_gen.weight_space.merge import merge_adapters
from lora_gen.weight_space.quantize import Bits, quantize_adapter


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How far an augmented adapter may be from its original. 0 or None leaves a change out."""

    min_rank: int | None = None
    """Smallest rank to truncate to; the rank is drawn from here to the adapter's own."""
    noise: float = 0.0
    """Largest norm of the noise, relative to the delta weight's."""
    bits: int | None = None
    """4 or 8 for a round trip through quantized factors, in half of the draws."""
    drop: float = 0.0
    """Probability of dropping each module; one is always left."""
    jitter: float = 0.0
    """Largest change of the whole strength, as a share."""
    mix: float = 0.0
    """Largest share of another adapter of the same task."""

    def __post_init__(self) -> None:
        for name in ("noise", "drop", "jitter", "mix"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"`{name}` is {getattr(self, name)}; it must be from 0 below 1.")
        if self.bits not in (None, 4, 8):
            raise ConfigError(f"`bits` is {self.bits}; factors are kept in 4 or 8.")
        if self.min_rank is not None and self.min_rank < 1:
            raise ConfigError(f"`min_rank` is {self.min_rank}; it must be at least 1.")


def augmented(
    adapter: Adapter,
    config: AugmentConfig,
    generator: torch.Generator,
    *,
    others: Sequence[Adapter] = (),
) -> Adapter:
    """One random variant of the adapter.

    Args:
        adapter: The original; it is not changed.
        config: Which changes, and how large.
        generator: Draws them.
        others: Adapters of the same task, to mix with.
    """
    if config.mix and others:
        other = others[_below(len(others), generator)]
        adapter = mixed(adapter, other, config.mix * _uniform(generator))
    if config.min_rank is not None and config.min_rank < adapter.max_rank:
        span = adapter.max_rank - config.min_rank + 1
        adapter = truncate(adapter, config.min_rank + _below(span, generator))
    if config.noise:
        adapter = noised(adapter, config.noise * _uniform(generator), generator)
    if config.drop:
        adapter = with_modules_dropped(adapter, config.drop, generator)
    if config.jitter:
        adapter = scale(adapter, 1 + config.jitter * (2 * _uniform(generator) - 1))
    if config.bits is not None and _uniform(generator) < 0.5:
        adapter = quantize_adapter(adapter, bits=cast(Bits, config.bits)).dequantized()
    return adapter


def noised(adapter: Adapter, share: float, generator: torch.Generator) -> Adapter:
    """The adapter with noise on its canonical factors.

    The noise of a module has about `share` of the norm of its delta weight, whatever its rank.
    """
    pairs = {}
    for name, pair in adapter.pairs.items():
        canonical = canonicalize_pair(pair)
        a_RI, b_OR = canonical.matrices()
        # |dB A + B dA|^2 is the sum of both; each gets half of it.
        strength = share * _delta_norm(a_RI, b_OR) / math.sqrt(2)
        a_norm, b_norm = float(a_RI.norm()), float(b_OR.norm())
        b_noise = _noise_like(b_OR, strength / (a_norm * math.sqrt(len(b_OR)) or 1.0), generator)
        a_noise = _noise_like(
            a_RI, strength / (b_norm * math.sqrt(a_RI.shape[1]) or 1.0), generator
        )
        pairs[name] = canonical.with_matrices(a_RI + a_noise, b_OR + b_noise)
    return replace(adapter, pairs=pairs)


def with_modules_dropped(adapter: Adapter, share: float, generator: torch.Generator) -> Adapter:
    """The adapter without some of its modules, each dropped with probability `share`."""
    names = list(adapter.pairs)
    kept = [name for name in names if _uniform(generator) >= share]
    kept = kept or [names[_below(len(names), generator)]]
    return replace(adapter, pairs={name: adapter.pairs[name] for name in kept})


def mixed(adapter: Adapter, other: Adapter, share: float) -> Adapter:
    """`1 - share` of the adapter and `share` of the other, at the adapter's rank and norm."""
    merged = merge_adapters([adapter, other], [1 - share, share], rank=adapter.max_rank).adapter
    length = norm(merged)
    return scale(merged, norm(adapter) / length) if length > 0 else adapter


def _delta_norm(a_RI: Tensor, b_OR: Tensor) -> float:
    squared = ((a_RI @ a_RI.mT) * (b_OR.mT @ b_OR)).double().sum()
    return math.sqrt(max(float(squared), 0.0))


def _noise_like(matrix: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
    return torch.randn(matrix.shape, generator=generator).to(matrix.dtype) * deviation


def _uniform(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator))


def _below(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=generator))
