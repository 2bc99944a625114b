"""The zoo as the app shows it: rows, a map by weights, and neighbors of an adapter."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.stack import AdapterStack
from lora_gen.errors import AdapterMismatchError
from lora_gen.zoo.entry import ZooEntry
from lora_gen.zoo.store import Zoo

MAX_ON_MAP = 1_000
MAX_FAMILIES = 5
OTHERS = "others"
_ROWS = 64
"""Adapters whose inner products with all others are computed at a time."""


@dataclass(frozen=True, kw_only=True)
class ZooMap:
    """Adapters in the plane that keeps most of their cosines (PCA of the centered Gram matrix)."""

    ids: tuple[str, ...]
    points: tuple[tuple[float, float], ...]
    explained: float
    """Share of the variance that the plane keeps, 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class Neighbor:
    """A zoo entry near an adapter."""

    entry: ZooEntry
    cosine: float
    """Of the delta weights, -1 to 1."""


def family_of(entry: ZooEntry) -> str:
    """What sort of thing an entry works on: the first word of its family, `date` of `date_iso`."""
    found = re.match(r"[a-z]+", entry.family)
    return found.group() if found else OTHERS


class ZooView:
    """A zoo opened for reading, its adapters kept in memory, stacked to be compared with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.zoo = Zoo.open(folder, read_only=True)
        self._entries = self.zoo.entries()
        self._by_id = {entry.id: entry for entry in self._entries}
        self._lock = threading.Lock()
        self._map: ZooMap | None = None
        self._stack: AdapterStack | None = None
        self._modules: frozenset[str] = frozenset()
        self._frame: _Frame | None = None

    def entries(self, *, split: str | None = None, text: str = "") -> list[ZooEntry]:
        """Entries in the order they were added; `text` must occur in the task or a description."""
        wanted = text.strip().lower()
        return [
            entry
            for entry in self._entries
            if (not split or entry.split == split)
            and (not wanted or wanted in " ".join((entry.task, *entry.descriptions)).lower())
        ]

    def counts(self) -> dict[str, int]:
        """Split -> number of entries."""
        return dict(Counter(entry.split for entry in self._entries))

    def families(self) -> dict[str, int]:
        """Family -> number of entries: the largest ones, at last all others together."""
        found = Counter(map(family_of, self._entries))
        rest = found.pop(OTHERS, 0)
        named = found.most_common(MAX_FAMILIES)
        rest += found.total() - sum(count for _, count in named)
        return dict(named) | ({OTHERS: rest} if rest else {})

    def entry(self, entry_id: str) -> ZooEntry:
        """The entry of that id.

        Raises:
            ZooError: The zoo has no such entry.
        """
        return self._by_id.get(entry_id) or self.zoo.get(entry_id)

    def adapter(self, entry_id: str) -> Adapter:
        """The adapter of an entry.

        Raises:
            ZooError: The zoo has no such entry, or it is damaged.
        """
        return self.zoo.load(self.entry(entry_id).id)

    def path(self, entry_id: str) -> Path:
        """Folder of an entry."""
        return self.zoo.folders.path_of(self.entry(entry_id).id)

    def map(self) -> ZooMap:
        """The map, computed at the first call."""
        with self._lock:
            if self._map is None:
                ids = [entry.id for entry in self._entries]
                step = max(1, -(-len(ids) // MAX_ON_MAP))
                self._map, self._frame = self._measure(ids[::step])
            return self._map

    def place(self, adapter: Adapter) -> tuple[float, float] | None:
        """Where an adapter lies on the map; None when it is for another base."""
        found = self._cosines(adapter)
        return None if found is None or self._frame is None else self._frame.place(found)

    def neighbors(
        self, adapter: Adapter, count: int = 5, admits: Callable[[ZooEntry], bool] | None = None
    ) -> list[Neighbor]:
        """The entries whose delta weights point most nearly the same way, nearest first.

        Args:
            adapter: Any adapter; one of other shapes has no neighbors.
            count: At most so many.
            admits: Which entries may be found; all, when nothing is given.
        """
        cosines = self._cosines(adapter)
        if cosines is None:
            return []
        near: list[Neighbor] = []
        ids = self.map().ids
        for i in cosines.argsort(descending=True).tolist():
            entry = self._by_id[ids[i]]
            if len(near) < count and (admits is None or admits(entry)):
                near.append(Neighbor(entry=entry, cosine=float(cosines[i])))
        return near

    def comparable(self, adapter: Adapter) -> bool:
        """Whether the zoo has adapters of the same shapes."""
        return self._cosines(adapter) is not None

    def _measure(self, ids: Sequence[str]) -> tuple[ZooMap, _Frame | None]:
        if len(ids) < 3:
            return ZooMap(ids=tuple(ids), points=((0.0, 0.0),) * len(ids), explained=1.0), None
        adapters = [self.zoo.load(entry_id) for entry_id in ids]
        self._modules = frozenset(name for adapter in adapters for name in adapter.pairs)
        stack = self._stack = AdapterStack(adapters, dtype=torch.float32)
        blocks = (adapters[start : start + _ROWS] for start in range(0, len(ids), _ROWS))
        rows = [AdapterStack(b, dtype=torch.float32).inner_products(stack) for b in blocks]
        frame = _Frame(torch.cat(rows))
        points = [(float(x), float(y)) for x, y in frame.points_B2.tolist()]
        made = ZooMap(ids=tuple(ids), points=tuple(points), explained=frame.explained)
        return made, frame

    def _cosines(self, adapter: Adapter) -> Tensor | None:
        """Cosine with every adapter on the map, (B,)."""
        self.map()
        if self._stack is None or self._frame is None or self._modules.isdisjoint(adapter.pairs):
            return None
        asked = AdapterStack([adapter], dtype=torch.float32)
        try:
            products_B = asked.inner_products(self._stack)[0]
        except AdapterMismatchError:
            return None
        length = asked.inner_products(asked)[0, 0].clamp_min(1e-30).sqrt()
        return products_B / (length * self._frame.length_B)


class _Frame:
    """The plane of a Gram matrix (B, B), and where another adapter falls in it."""

    def __init__(self, gram_BB: Tensor) -> None:
        self.length_B = gram_BB.diagonal().clamp_min(1e-30).sqrt()
        cosine_BB = gram_BB / self.length_B[:, None] / self.length_B
        self._mean_B = cosine_BB.mean(0)
        centered_BB = cosine_BB - self._mean_B - self._mean_B[:, None] + cosine_BB.mean()
        values_B, vectors_BB = torch.linalg.eigh(centered_BB)
        top = values_B[-2:].flip(0).clamp_min(1e-12)
        self._axes_B2 = vectors_BB[:, -2:].flip(1) / top.sqrt()
        self.points_B2 = centered_BB @ self._axes_B2
        self.explained = float(top.sum() / values_B.clamp_min(0).sum().clamp_min(1e-12))

    def place(self, cosines_B: Tensor) -> tuple[float, float]:
        """Where an adapter with these cosines lies (kernel PCA's projection)."""
        centered_B = cosines_B - cosines_B.mean() - self._mean_B + self._mean_B.mean()
        x, y = (centered_B @ self._axes_B2).tolist()
        return float(x), float(y)
