"""Door: LanceDB, a derived table of vectors that can be dropped and made again at any moment."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from lora_gen.retrieval.errors import IndexDamagedError
from lora_gen.retrieval.table import FACTS, Column, ExactSearch, Filters, Matrix
from lora_gen.retrieval.vectors import Vector, VectorRow

EXACT_ROWS = 150_000
"""Up to so many rows a column is held in memory (1.5 KB a row) and searched whole: that is exact,
and faster than reading it from disk for every query."""
_COLUMNS: tuple[Column, ...] = ("text", "signature", "weights")


def has_lancedb() -> bool:
    """Whether the extra `search` is installed."""
    return find_spec("lancedb") is not None


class LanceTable:
    """One table of `VectorRow` in a LanceDB folder.

    Every change is one Lance commit: a killed writer leaves the version before it.

    Args:
        folder: The database's folder; made when the first rows come.
        name: The table, named after the fingerprint of what its vectors were made with.

    Raises:
        IndexDamagedError: The table is there, but cannot be read.
    """

    def __init__(self, folder: Path, name: str) -> None:
        import lancedb

        self.folder, self.name = folder, name
        self._exact: dict[Column, tuple[int, ExactSearch]] = {}
        with _damage(folder):
            self._database = lancedb.connect(folder)
            self._table: Any = self._database.open_table(name) if self._path.is_dir() else None

    @property
    def _path(self) -> Path:
        return self.folder / f"{self.name}.lance"

    def count(self) -> int:
        """Number of rows."""
        with _damage(self.folder):
            return 0 if self._table is None else int(self._table.count_rows())

    def created(self) -> dict[str, str]:
        """See `VectorTable.created`."""
        if self._table is None:
            return {}
        with _damage(self.folder):
            found = self._table.search().select(["id", "created"]).limit(None).to_arrow()
            return dict(zip(found["id"].to_pylist(), found["created"].to_pylist(), strict=True))

    def vectors(self, column: Column) -> tuple[list[str], Matrix]:
        """See `VectorTable.vectors`."""
        if self._table is None:
            return [], np.zeros((0, 0), np.float32)
        with _damage(self.folder):
            query = self._table.search().where(f"has_{column}").select(["id", column])
            found = query.limit(None).to_arrow()
            return found["id"].to_pylist(), _matrix(found[column])

    def add(self, rows: Sequence[VectorRow]) -> None:
        """Commit rows."""
        if not rows:
            return
        data = _to_arrow(rows)
        with _damage(self.folder):
            if self._table is None:
                self._table = self._database.create_table(self.name, data=data)
            else:
                self._table.add(data)

    def delete(self, ids: Iterable[str]) -> None:
        """Commit the removal of rows."""
        listed = sorted(ids)
        if self._table is None or not listed:
            return
        with _damage(self.folder):
            for start in range(0, len(listed), 500):
                names = ", ".join(_quoted(name) for name in listed[start : start + 500])
                self._table.delete(f"id IN ({names})")

    def compact(self) -> None:
        """Join small files and forget old versions; search is as fast as after one write."""
        if self._table is not None:
            with _damage(self.folder):
                self._table.optimize()

    def search(
        self, column: Column, vector: Vector, limit: int, filters: Filters
    ) -> list[tuple[str, float]]:
        """See `VectorTable.search`; exact up to `EXACT_ROWS`, by LanceDB's scan beyond."""
        if self._table is None or not limit:
            return []
        with _damage(self.folder):
            if self._table.count_rows() <= EXACT_ROWS:
                return self._column(column).search(vector, limit, filters)
            query = (
                self._table.search(vector, vector_column_name=column)
                .distance_type("dot")
                .where(_condition(column, filters), prefilter=True)
                .select(["id", "_distance"])
                .limit(limit)
            )
            return [(row["id"], 1.0 - row["_distance"]) for row in query.to_list()]

    def _column(self, column: Column) -> ExactSearch:
        """One column in memory, read again when the table has another version."""
        version = int(self._table.version)
        held = self._exact.get(column)
        if held is None or held[0] != version:
            query = self._table.search().where(f"has_{column}").select(["id", column, *FACTS])
            found = query.limit(None).to_arrow()
            facts = {name: found[name].to_numpy() for name in FACTS}
            exact = ExactSearch(found["id"].to_pylist(), _matrix(found[column]), facts)
            held = version, exact
            self._exact[column] = held
        return held[1]


def drop_tables(folder: Path, *, keep: str | None = None) -> None:
    """Delete the tables of a folder, but one."""
    for path in folder.glob("*.lance"):
        if path.stem != keep:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _matrix(vectors: Any) -> Matrix:
    """A column of fixed-size lists as rows, (rows, E)."""
    flat = vectors.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    found: Matrix = flat.reshape(len(vectors), vectors.type.list_size)
    return found


def _condition(column: Column, filters: Filters) -> str:
    parts = [f"has_{column}"]
    if filters.base is not None:
        parts.append(f"base = {_quoted(filters.base)}")
    if filters.max_rank is not None:
        parts.append(f"rank <= {filters.max_rank:d}")
    if filters.min_accuracy is not None:
        parts.append(f"accuracy >= {filters.min_accuracy!r}")
    return " AND ".join(parts)


def _quoted(text: str) -> str:
    escaped = text.replace("'", "''")
    return f"'{escaped}'"


def _to_arrow(rows: Sequence[VectorRow]) -> Any:
    import pyarrow as pa  # type: ignore[import-untyped]

    columns: dict[str, Any] = {
        name: [getattr(row, name) for row in rows]
        for name in ("id", "created", "base", "rank", "accuracy")
    }
    for name in _COLUMNS:
        vectors = [getattr(row, name) for row in rows]
        columns[f"has_{name}"] = [bool(vector.any()) for vector in vectors]
        width = max(1, max(len(vector) for vector in vectors))
        flat = np.concatenate([v if len(v) else np.zeros(width, np.float32) for v in vectors])
        columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(flat, pa.float32()), width)
    return pa.table(columns)


@contextmanager
def _damage(folder: Path) -> Iterator[None]:
    """LanceDB's errors as ours; they have no common class."""
    try:
        yield
    except Exception as error:  # a panic of Lance's own code on damaged files is one, too
        raise IndexDamagedError(
            f"The index in `{folder}` cannot be used ({type(error).__name__}: {str(error)[:200]}). "
            "It is made again from the zoo."
        ) from error
