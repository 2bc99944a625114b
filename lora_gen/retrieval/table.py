"""Vectors of a zoo searched by brute force, and what every table of vectors can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from lora_gen.retrieval.vectors import Vector, VectorRow

Column = Literal["text", "signature", "weights"]
Matrix = np.ndarray[tuple[int, int], np.dtype[np.float32]]
Facts = NDArray[Any]
FACTS = ("base", "rank", "accuracy")
"""What filters look at."""


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


class ExactSearch:
    """One column of many rows as a matrix: every search looks at all of them, and is exact.

    Args:
        ids: Of the rows.
        matrix: Unit vectors, (rows, E); rows of zeros have no such vector.
        facts: `base`, `rank` and `accuracy` (-1 where unknown) of the rows, by name.
    """

    def __init__(self, ids: Sequence[str], matrix: Matrix, facts: Mapping[str, Facts]) -> None:
        self.ids, self.matrix, self.facts = ids, matrix, facts

    def search(self, vector: Vector, limit: int, filters: Filters) -> list[tuple[str, float]]:
        """(id, inner product), the largest first."""
        if not len(self.ids) or not self.matrix.shape[1]:
            return []
        scores = self.matrix @ vector
        allowed = self._allowed(filters)
        if allowed is not None:
            scores = np.where(allowed, scores, -np.inf)
        count = min(limit, len(scores))
        best = np.argpartition(-scores, count - 1)[:count]
        best = best[np.lexsort((best, -scores[best]))]
        return [(self.ids[i], float(scores[i])) for i in best if np.isfinite(scores[i])]

    def _allowed(self, filters: Filters) -> NDArray[np.bool_] | None:
        """Which rows pass; None where all do."""
        masks = []
        if filters.base is not None:
            masks.append(self.facts["base"] == filters.base)
        if filters.max_rank is not None:
            masks.append(self.facts["rank"] <= filters.max_rank)
        if filters.min_accuracy is not None:
            masks.append(self.facts["accuracy"] >= filters.min_accuracy)
        return np.logical_and.reduce(masks) if masks else None


class MemoryTable:
    """Rows in memory; exact."""

    def __init__(self, rows: Sequence[VectorRow] = ()) -> None:
        self.rows = list(rows)
        self._exact: dict[Column, ExactSearch] = {}

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
        if column not in self._exact:
            ids, matrix = self.vectors(column)
            known = {row.id: row for row in self.rows}
            rows = [known[entry_id] for entry_id in ids]
            facts = {name: np.array([getattr(row, name) for row in rows]) for name in FACTS}
            self._exact[column] = ExactSearch(ids, matrix, facts)
        return self._exact[column].search(vector, limit, filters)
