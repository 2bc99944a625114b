"""An adapter with noise: what a generator that copies would write, with its copy disguised."""

from __future__ import annotations

from dataclasses import replace

import torch

from lora_gen.adapter.adapter import Adapter
from lora_gen.codec.canonical import canonicalize

LEVELS = (0.25, 0.5)
"""Noise of every factor entry, relative to the root mean square of its factor."""


def noisy(adapter: Adapter, level: float, generator: torch.Generator) -> Adapter:
    """The adapter with Gaussian noise on its canonical factors.

    The canonical gauge makes the noise a property of the delta weight; noise on a dense delta
    weight would leave the rank.
    """
    pairs = {}
    for name, pair in canonicalize(adapter).pairs.items():
        factors = {}
        for side in ("lora_a", "lora_b"):
            factor = getattr(pair, side).float()
            size = level * factor.square().mean().sqrt()
            factors[side] = factor + size * torch.randn(factor.shape, generator=generator)
        pairs[name] = replace(pair, **factors)
    return replace(adapter, pairs=pairs)
