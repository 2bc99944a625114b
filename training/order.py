"""Order of data and seeds as pure functions of a counter, so that resume needs the counter only."""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b

import torch
from torch import Tensor


def derive_seed(seed: int, *path: int | str) -> int:
    """An independent 63-bit seed for each path below a seed.

    Args:
        seed: The recipe's seed.
        *path: What the seed is for, such as `"loss", 17`.
    """
    text = "/".join(map(str, (seed, *path)))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


@lru_cache(maxsize=4)
def _permutation(length: int, seed: int, epoch: int) -> Tensor:
    generator = torch.Generator().manual_seed(derive_seed(seed, "epoch", epoch))
    return torch.randperm(length, generator=generator)


def batch_positions(index: int, *, batch_size: int, length: int, seed: int) -> Tensor:
    """Positions of the examples in micro-batch `index`; each epoch is a fresh permutation.

    No example is dropped: a batch may straddle two epochs, or hold several epochs of a short one.

    Args:
        index: Number of the micro-batch in the whole run.
        batch_size: Examples in a micro-batch.
        length: Examples in an epoch.
        seed: Decides the permutations.

    Returns:
        int64 positions in [0, length), shape (batch_size,).
    """
    first, last = index * batch_size, (index + 1) * batch_size
    parts = []
    for epoch in range(first // length, (last - 1) // length + 1):
        start = epoch * length
        order = _permutation(length, seed, epoch)
        parts.append(order[max(first - start, 0) : min(last - start, length)])
    return torch.cat(parts)
