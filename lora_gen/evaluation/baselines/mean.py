"""The mean adapter of a zoo: what a generator that ignores its condition would write."""

from __future__ import annotations

from collections.abc import Sequence

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.algebra import add, scale, truncate
from lora_gen.errors import ZooError
from lora_gen.zoo.store import Zoo

_GROUP = 8


def mean_adapter(zoo: Zoo, ids: Sequence[str], *, rank: int) -> Adapter:
    """The adapter whose delta weight is the mean of the zoo's, at `rank`.

    The running sum is cut to eight times `rank` after each group, so memory does not grow with the
    zoo; what is cut is small beside the final cut to `rank`.

    Raises:
        ZooError: There is no adapter to average.
    """
    if not ids:
        raise ZooError(
            "The zoo has no entry of split `seen`, so there is no adapter to average or choose "
            "from. Add the adapters that the generator learned from."
        )
    total: Adapter | None = None
    for start in range(0, len(ids), _GROUP):
        group = [zoo.load(entry_id) for entry_id in ids[start : start + _GROUP]]
        total = truncate(add([total, *group] if total is not None else group), 8 * rank)
    assert total is not None  # there is at least one group
    return truncate(scale(total, 1 / len(ids)), rank)
