"""Vectors of a zoo searched by brute force, and what every table of vectors can do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from lora_gen.retrieval.vectors import Vector, VectorRow

Column = Literal["text", "signature", "weights"]
Matrix = np.ndarray[tuple[int, int], np.dtype[np.float32]]


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Which adapters may be found."""

    base: str | None = None
    """Only for this base."""
    max_rank: int | None = None
    """Only up to this rank."""
    min_accuracy: float | None = None
    """Only measured at least this well; entries without a measurement are left out."""


class VectorTable(Protocol):
    """A searchable set of `VectorRow`."""

    def created(self) -> dict[str, str]:
        """Id -> when the entry was added."""
        ...

    def vectors(self, column: Column) -> tuple[list[str], Matrix]:
        """Ids and vectors of all rows that have this vector."""
        ...

    def search(
        self, column: Column, vector: Vector, limit: int, filters: Filters
    ) -> list[tuple[str, float]]:
        """(id, inner product), the largest first; rows without this vector are left out."""
        ...


class MemoryTable:
    """Rows in memory; exact."""

    def __init__(self, rows: Sequence[VectorRow] = ()) -> None:
        self.rows = list(rows)

    def created(self) -> dict[str, str]:
        """See `VectorTable.created`."""
        return {row.id: row.created for row in self.rows}

    def vectors(self, column: Column) -> tuple[list[str], Matrix]:
        """See `VectorTable.vectors`."""
        rows = [row for row in self.rows if getattr(row, column).any()]
        found = [getattr(row, column) for row in rows]
        return [row.id for row in rows], np.stack(found) if found else np.zeros((0, 0), np.float32)

    def search(
        self, column: Column, vector: Vector, limit: int, filters: Filters
    ) -> list[tuple[str, float]]:
        """See `VectorTable.search`."""
        rows = [r for r in self.rows if _passes(r, filters) and getattr(r, column).any()]
        if not rows:
            return []
        scores = np.stack([getattr(row, column) for row in rows]) @ vector
        best = np.argsort(-scores, kind="stable")[:limit]
        return [(rows[i].id, float(scores[i])) for i in best]


def _passes(row: VectorRow, filters: Filters) -> bool:
    return (
        (filters.base is None or row.base == filters.base)
        and (filters.max_rank is None or row.rank <= filters.max_rank)
        and (filters.min_accuracy is None or row.accuracy >= filters.min_accuracy)
    )
