"""Weighted sums of many adapters in little memory."""

from __future__ import annotations

from collections.abc import Sequence

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.algebra import truncate
from lora_gen.errors import AdapterMismatchError
from lora_gen.weight_space.merge import merge_adapters

_GROUP = 8


def streamed_sum(adapters: Sequence[Adapter], weights: Sequence[float], *, rank: int) -> Adapter:
    """The weighted sum at `rank`; while it grows it is cut to eight times that.

    What is cut on the way is small beside the last cut.

    Raises:
        AdapterMismatchError: There is no adapter, or `merge_adapters` refuses them.
    """
    if not adapters:
        raise AdapterMismatchError("There is no adapter to sum. Pass at least one.")
    total: list[Adapter] = []
    for start in range(0, len(adapters), _GROUP):
        group = [*total, *adapters[start : start + _GROUP]]
        shares = [1.0] * len(total) + list(weights[start : start + _GROUP])
        total = [merge_adapters(group, shares, rank=8 * rank).adapter]
    return truncate(total[0], rank)
