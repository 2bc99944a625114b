"""Changes of an adapter that leave its delta weights as they are."""

from __future__ import annotations

from dataclasses import replace

import torch

from lora_gen.adapter.adapter import Adapter


def regauged(adapter: Adapter, seed: int) -> Adapter:
    """The same delta weights with other factors and other scalings."""
    generator = torch.Generator().manual_seed(seed)
    pairs = {}
    for name, pair in adapter.pairs.items():
        gauge = torch.randn(pair.rank, pair.rank, generator=generator, dtype=torch.float64)
        gauge = torch.linalg.qr(gauge)[0] * torch.linspace(0.5, 2, pair.rank).double()
        lora_a, lora_b = pair.matrices()
        pairs[name] = pair.with_matrices(
            torch.linalg.inv(gauge) @ lora_a, lora_b @ gauge / 3, scaling=pair.scaling * 3
        )
    return replace(adapter, pairs=pairs)
