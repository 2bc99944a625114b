"""When one source fills an index: hits capped by source, near-duplicates grouped, hubs named.

An entry's source is what its `extra` says under `source`, as uploads have it, or the owner of the
hub repository in its `origin`; the operator's own entries have none and are never capped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_gen.errors import AdapterMismatchError, ZooError
from lora_gen.retrieval.orders import close_pairs

if TYPE_CHECKING:
    from lora_gen.retrieval.search import AdapterIndex, Hit
    from lora_gen.retrieval.table import Matrix

PER_SOURCE = 3
"""Hits of one source in one answer."""

NEIGHBORS = 10
HUB_SHARE = 0.25
"""A vector that is among the nearest of so many others is a hub; an honest one is near its kind."""

FEWEST = 40
"""Vectors below which a share says nothing."""

_TIMES_USUAL = 4
"""In a small zoo everything is near a large share of the rest; a hub is so many times nearer."""

_ROWS = 1_024


@dataclass(frozen=True, kw_only=True)
class Hub:
    """An entry that lies near everything."""

    id: str
    share: float
    """Of all other entries, those that count it among their nearest."""


def source_of(extra: Mapping[str, Any]) -> str | None:
    """Who an entry came from: `upload`, or the owner of a hub repository; None for the operator."""
    source = extra.get("source")
    if isinstance(source, str) and source:
        return source
    origin = extra.get("origin")
    named = origin.get("source") if isinstance(origin, Mapping) else None
    owner, slash, rest = named.partition("/") if isinstance(named, str) else ("", "", "")
    return owner if slash and "@" in rest else None


def capped(hits: Iterable[Hit], *, per_source: int = PER_SOURCE) -> list[Hit]:
    """The hits, of each source only the best ones."""
    seen: Counter[str] = Counter()
    kept = []
    for hit in hits:
        source = source_of(hit.entry.extra)
        if source is not None:
            seen[source] += 1
            if seen[source] > per_source:
                continue
        kept.append(hit)
    return kept


def search_capped(
    search: Callable[[int], list[Hit]], top: int, *, per_source: int = PER_SOURCE
) -> list[Hit]:
    """The best hits under the cap, however many of one source stand before them.

    Args:
        search: The best hits of a number, uncapped.
        top: At most so many.
        per_source: Hits of one source.
    """
    asked = top
    while True:
        found = search(asked)
        kept = capped(found, per_source=per_source)[:top]
        if len(kept) == top or len(found) < asked:
            return kept
        asked *= 4


def near_duplicates(index: AdapterIndex, *, threshold: float = 0.99) -> list[tuple[str, ...]]:
    """Ids of entries whose delta weights are as good as the same, group by group, largest first.

    Signatures choose the candidates; the factors of each are compared with those of its group's
    first member, so a flood costs as many comparisons as it has adapters.
    """
    ids, matrix = index.vectors("signature")
    first: dict[int, int] = {}
    for i, j in close_pairs(matrix, threshold - 0.2):
        start = first.get(i, i)
        if j not in first and start != j and _same(index, ids[start], ids[j], threshold):
            first[j] = start
    groups: dict[int, list[str]] = {}
    for member, start in first.items():
        groups.setdefault(start, [ids[start]]).append(ids[member])
    return sorted((tuple(group) for group in groups.values()), key=lambda g: (-len(g), g))


def hubs(ids: Sequence[str], vectors: Matrix, *, share: float = HUB_SHARE) -> list[Hub]:
    """Entries that are among the nearest neighbors of a large share of all others.

    Copies of one vector are one, or a flood would vote for itself.
    """
    kept = _distinct(vectors)
    rows = vectors[kept]
    if len(rows) < FEWEST:
        return []
    counts = np.zeros(len(rows), np.int64)
    for start in range(0, len(rows), _ROWS):
        scores = rows[start : start + _ROWS] @ rows.T
        scores[np.arange(len(scores)), start + np.arange(len(scores))] = -np.inf
        nearest = np.argpartition(-scores, NEIGHBORS, axis=1)[:, :NEIGHBORS]
        counts += np.bincount(nearest.ravel(), minlength=len(rows))
    shares = counts / (len(rows) - 1)
    least = max(share, _TIMES_USUAL * NEIGHBORS / (len(rows) - 1))
    order = [int(i) for i in np.argsort(-shares) if shares[i] >= least]
    return [Hub(id=ids[kept[i]], share=float(shares[i])) for i in order]


def alarms(index: AdapterIndex) -> list[str]:
    """A sentence for each hub among descriptions and among weights."""
    found = []
    for column, what in (("text", "descriptions"), ("signature", "weights")):
        for hub in hubs(*index.vectors(column)):  # type: ignore[arg-type]
            found.append(
                f"`{hub.id}` is among the nearest of {hub.share:.0%} of all entries by their "
                f"{what}, so searches find it whatever they ask for. Look at it."
            )
    return found


def _same(index: AdapterIndex, left: str, right: str, threshold: float) -> bool:
    from lora_gen.adapter.algebra import cosine

    try:
        return cosine(index.zoo.load(left), index.zoo.load(right)) >= threshold
    except (AdapterMismatchError, ZooError):
        return False


def _distinct(vectors: Matrix) -> list[int]:
    """Rows that are not copies of an earlier one."""
    copies = {j for _, j in close_pairs(vectors, 0.999)} if len(vectors) else set()
    return [row for row in range(len(vectors)) if row not in copies]
