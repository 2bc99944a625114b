"""Clients' adapters as one, weighted by their data: exactly, and as FedAvg does it on factors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.algebra import resize
from lora_gen.errors import AdapterMismatchError, AdapterValueError
from lora_gen.weight_space.merge import Merged, merge_adapters


def federate_adapters(
    adapters: Sequence[Adapter], sizes: Sequence[float], *, rank: int | None = None
) -> Merged:
    """The mean of the clients' delta weights, weighted by their numbers of examples.

    Ranks and scalings may differ between clients. Without `rank` the mean is exact, at the sum of
    the ranks; with it, the nearest adapter at that rank, to send back, and the error.

    Args:
        adapters: One a client.
        sizes: Examples of each client.
        rank: Largest rank of the result.

    Raises:
        AdapterMismatchError: As `merge_adapters`.
        AdapterValueError: A size is negative, or all are zero.
    """
    return merge_adapters(adapters, _shares(adapters, sizes), rank=rank)


def average_factors(adapters: Sequence[Adapter], sizes: Sequence[float]) -> Adapter:
    """The mean of A and the mean of B, zero-padded to the largest rank: the baseline.

    What FedAvg on LoRA's parameters gives (FedIT; padded as in HetLoRA). It depends on every
    client's gauge, and its product holds B_i A_j of different clients.

    Raises:
        AdapterMismatchError: Clients differ in modules, or in the number of sizes.
        AdapterValueError: A size is negative, or all are zero.
    """
    shares = _shares(adapters, sizes)
    if len({tuple(adapter.pairs) for adapter in adapters}) != 1:
        raise AdapterMismatchError(
            "Factors can be averaged only where all clients change the same modules. Use "
            "`federate_adapters`."
        )
    rank = max(adapter.max_rank for adapter in adapters)
    wide = [resize(adapter, rank) for adapter in adapters]
    pairs = {}
    for name, first in wide[0].pairs.items():
        found = [adapter.pairs[name].folded() for adapter in wide]
        a = torch.stack([w * p.lora_a for w, p in zip(shares, found, strict=True)]).sum(0)
        b = torch.stack([w * p.lora_b for w, p in zip(shares, found, strict=True)]).sum(0)
        pairs[name] = replace(first, lora_a=a, lora_b=b, scaling=1.0)
    return replace(adapters[0], pairs=pairs)


def _shares(adapters: Sequence[Adapter], sizes: Sequence[float]) -> list[float]:
    if not adapters or len(sizes) != len(adapters):
        raise AdapterMismatchError(
            f"`sizes` has {len(sizes)} numbers for {len(adapters)} clients. Pass one for each."
        )
    total = sum(sizes)
    if not total > 0 or min(sizes) < 0:
        raise AdapterValueError("`sizes` must be numbers of examples, from 0 up and not all 0.")
    return [size / total for size in sizes]
