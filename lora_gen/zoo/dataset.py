"""A zoo as a map-style dataset: flat in memory however large the zoo."""

from __future__ import annotations

import os
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from lora_gen.adapter.adapter import Adapter
from lora_gen.errors import ZooError
from lora_gen.zoo.entry import ZooEntry
from lora_gen.zoo.store import Zoo


@dataclass(frozen=True, kw_only=True)
class ZooItem:
    """One adapter to learn from."""

    index: int
    """Its place in the dataset."""

    entry: ZooEntry
    """What the zoo knows about it."""

    adapter: Adapter
    """Its factors, in the dtype the zoo keeps; shared with the cache, so never changed in place."""


class ZooDataset(Dataset[ZooItem]):
    """The entries of one zoo, in the order they were added, each loaded and checked when asked for.

    Only the ids stay in memory (40 bytes an entry), and the adapters used last, up to
    `cache_bytes`. Every worker process opens the zoo for itself. Entries added later are not seen;
    one removed later is an error.

    Args:
        folder: The zoo.
        split: Keep only this split.
        base: Keep only adapters for this base.
        task: Keep only this task.
        cache_bytes: Bound on the factors kept in memory, for each process.

    Raises:
        ZooError: It is no zoo, or no entry is left.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        split: str | None = None,
        base: str | None = None,
        task: str | None = None,
        cache_bytes: int = 256 * 2**20,
    ) -> None:
        self.folder = Path(folder)
        self._cache_bytes = cache_bytes
        self._forget()
        filters = {"split": split, "base": base, "task": task}
        self.ids: tuple[str, ...] = tuple(self._open().ids(**filters))
        """Ids of the entries, in the dataset's order."""
        if not self.ids:
            asked = ", ".join(f"{name} `{value}`" for name, value in filters.items() if value)
            raise ZooError(
                f"`{folder}` has no entries{f' with {asked}' if asked else ''}. "
                "`lora-gen zoo list` shows all."
            )

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> ZooItem:
        """The item at `index`.

        Raises:
            IndexError: There is none.
            ZooError: Its files are missing or damaged.
        """
        entry_id = self.ids[index]
        item = self._cached(entry_id)
        if item is None:
            zoo = self._open()
            item = ZooItem(
                index=index % len(self.ids),
                entry=zoo.get(entry_id),
                adapter=zoo.load(entry_id),
            )
            self._keep(entry_id, item)
        return item

    def cached_bytes(self) -> int:
        """Bytes of the factors in memory now."""
        return self._held

    def close(self) -> None:
        """Close the zoo and forget the cache; the next item opens it again."""
        if self._zoo is not None and self._process == os.getpid():
            self._zoo.close()
            self._forget()

    def __getstate__(self) -> dict[str, Any]:
        """Without the open catalog and the cache, which belong to one process."""
        state = {**self.__dict__, "_zoo": None, "_inherited": None}
        return {**state, "_cache": OrderedDict(), "_held": 0}

    def _forget(self) -> None:
        self._zoo: Zoo | None = None
        self._inherited: Zoo | None = None
        self._process = os.getpid()
        self._cache: OrderedDict[str, ZooItem] = OrderedDict()
        self._held = 0

    def _open(self) -> Zoo:
        if self._zoo is None or self._process != os.getpid():
            # A connection that crossed a fork must be neither used nor closed (SQLite, "How To
            # Corrupt", section 2.6); dropping the last reference would close it.
            self._inherited = self._zoo
            self._process = os.getpid()
            self._zoo = Zoo.open(self.folder, read_only=True)
        return self._zoo

    def _cached(self, entry_id: str) -> ZooItem | None:
        item = self._cache.get(entry_id)
        if item is not None:
            self._cache.move_to_end(entry_id)
        return item

    def _keep(self, entry_id: str, item: ZooItem) -> None:
        self._cache[entry_id] = item
        self._held += _bytes(item.adapter)
        while self._held > self._cache_bytes:
            _, oldest = self._cache.popitem(last=False)
            self._held -= _bytes(oldest.adapter)


def _bytes(adapter: Adapter) -> int:
    factors = (factor for pair in adapter.pairs.values() for factor in (pair.lora_a, pair.lora_b))
    return sum(factor.numel() * factor.element_size() for factor in factors)
