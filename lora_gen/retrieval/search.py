"""Search in a zoo: the catalog says what exists, the index only says where to look."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.algebra import cosine
from lora_gen.closing import Closing
from lora_gen.errors import AdapterMismatchError, LockedError, ZooError
from lora_gen.files import atomic_write_json
from lora_gen.retrieval.errors import IndexDamagedError
from lora_gen.retrieval.index import LanceTable, drop_tables, has_lancedb
from lora_gen.retrieval.orders import close_pairs, fused
from lora_gen.retrieval.table import Column, Filters, Matrix, MemoryTable
from lora_gen.retrieval.vectors import Vector, Vectorizer, signature_of, to_vector
from lora_gen.zoo.lock import WriterLock
from lora_gen.zoo.store import Zoo

if TYPE_CHECKING:
    from lora_gen.zoo.entry import ZooEntry

By = Literal["weights", "text", "both"]

_STATE_NAME = "state.json"
_LOCK_NAME = ".lock"
_BATCH = 128
_SIGNATURE_MARGIN = 0.2
"""Signatures miss a cosine by 0.05 on average; four times that."""
_FUSED_DEPTH = 100
_NO_FILTERS = Filters()


@dataclass(frozen=True, kw_only=True)
class Hit:
    """One adapter that was found."""

    entry: ZooEntry
    """What the catalog says about it."""
    score: float
    """What the hits are ordered by: an inner product of unit vectors, or a fused rank."""
    parts: dict[str, float] = field(default_factory=dict)
    """Inner product by each way it was found."""


class AdapterIndex(Closing):
    """The adapters of a zoo, found by description, by weights or by likeness.

    The vectors lie in a LanceDB folder that is derived from the zoo: what is missing, stale or
    damaged is made again when the index is opened. Without LanceDB, or while another process
    writes the index, what is missing is held in memory and searched by brute force.

    Args:
        zoo: An open zoo; reading is enough.
        folder: Where the vectors lie; by default in the user's cache.
        vectorizer: What makes vectors; a trained encoder in it lets text find weights.
    """

    def __init__(
        self, zoo: Zoo, *, folder: Path | None = None, vectorizer: Vectorizer | None = None
    ) -> None:
        self.zoo = zoo
        self.folder = folder or default_folder(zoo.folder)
        self.vectorizer = vectorizer or Vectorizer()
        self.repairs: tuple[str, ...] = ()
        """What opening had to make again, one line each."""
        self._table: LanceTable | None = None
        self._memory = MemoryTable()
        self.refresh()

    @classmethod
    def open(
        cls,
        zoo: Path | str,
        *,
        folder: Path | None = None,
        vectorizer: Vectorizer | None = None,
    ) -> AdapterIndex:
        """The index of the zoo in a folder; the zoo is only read.

        Raises:
            ZooError: It is not a zoo, or is damaged.
        """
        return cls(Zoo.open(zoo, read_only=True), folder=folder, vectorizer=vectorizer)

    def refresh(self) -> tuple[str, ...]:
        """Bring the index up to the catalog.

        Returns:
            What was repaired, one line each; nothing when it was fresh.
        """
        self.repairs = ()
        if not has_lancedb():
            self._hold_missing({})
            return self.repairs
        try:
            self._refresh_table()
        except IndexDamagedError:
            drop_tables(self.folder)
            self._table = None
            self._note("the damaged index was dropped")
            self._refresh_table()
        return self.repairs

    def search(
        self, text: str, *, top: int = 10, by: By = "text", filters: Filters = _NO_FILTERS
    ) -> list[Hit]:
        """The adapters that fit a description, the best first.

        Args:
            text: What the adapter should do.
            top: At most so many.
            by: `text` compares with the descriptions of the entries, `weights` with nothing but
                the weights, `both` fuses the two orders.
            filters: Which adapters may be found.

        Raises:
            ConditionError: The text is unusable.
            MissingDependencyError: `by` needs a trained encoder, and there is none.
        """
        columns: list[Column] = ["text", "weights"] if by == "both" else [by]
        vectors = {column: self._query(text, column) for column in columns}
        found = {
            column: self._nearest(column, vector, max(top, _FUSED_DEPTH), filters)
            for column, vector in vectors.items()
        }
        scores = dict(found[columns[0]]) if len(columns) == 1 else fused(list(found.values()))
        parts: dict[str, dict[str, float]] = {name: dict(hits) for name, hits in found.items()}
        return self._hits(scores, parts, top)

    def similar(
        self, adapter: Adapter, *, top: int = 10, filters: Filters = _NO_FILTERS
    ) -> list[Hit]:
        """The adapters whose delta weights are most like this one's; scores are exact cosines.

        Signatures choose the candidates, the factors decide. An adapter of other shapes is left
        out.
        """
        found = self._nearest("signature", signature_of(adapter), 2 * top + 10, filters)
        scores = {}
        for entry_id, _ in found:
            cosine = self._cosine(adapter, entry_id)
            if cosine is not None:
                scores[entry_id] = cosine
        return self._hits(scores, {"delta": scores}, top)

    def similar_in_effect(
        self, adapter: Adapter, *, top: int = 10, filters: Filters = _NO_FILTERS
    ) -> list[Hit]:
        """The adapters that the trained encoder places nearest to this one.

        Raises:
            MissingDependencyError: There is no trained encoder.
        """
        self.vectorizer.require_encoder()
        return self.nearest(self.vectorizer.weights(adapter), top=top, filters=filters)

    def nearest(
        self, vector: Vector, *, top: int = 10, filters: Filters = _NO_FILTERS
    ) -> list[Hit]:
        """The adapters whose vectors by weights are nearest to one of the trained encoder."""
        found = dict(self._nearest("weights", vector, top, filters))
        return self._hits(found, {"weights": found}, top)

    def duplicates(self, *, threshold: float = 0.99) -> list[tuple[str, str, float]]:
        """Pairs of entries whose delta weights have at least this cosine, the closest first.

        Signatures with a margin for their noise choose the candidates, the factors decide.
        """
        ids, matrix = self.vectors("signature")
        exact = []
        for i, j in close_pairs(matrix, threshold - _SIGNATURE_MARGIN):
            left, right = sorted((ids[i], ids[j]))
            cosine = self._cosine(self.zoo.load(left), right)
            if cosine is not None and cosine >= threshold:
                exact.append((left, right, cosine))
        return sorted(exact, key=lambda pair: (-pair[2], pair[0], pair[1]))

    def vectors(self, column: Column) -> tuple[list[str], Matrix]:
        """Ids and vectors of all entries that have such a vector.

        Raises:
            MissingDependencyError: `weights` without a trained encoder.
        """
        if column == "weights":
            self.vectorizer.require_encoder()
        parts = [self._memory.vectors(column)]
        if self._table is not None:
            parts.append(self._table.vectors(column))
        live = set(self.zoo.ids())
        rows = [(i, v) for ids, vectors in parts for i, v in zip(ids, vectors, strict=True)]
        rows = [(entry_id, vector) for entry_id, vector in rows if entry_id in live]
        stacked = np.stack([v for _, v in rows]) if rows else np.zeros((0, 0), np.float32)
        return [entry_id for entry_id, _ in rows], stacked

    def close(self) -> None:
        """Close the zoo. Safe to call twice."""
        self.zoo.close()

    def _query(self, text: str, column: Column) -> Vector:
        if column == "text":
            return to_vector(self.vectorizer.texts([text])[0])
        encoder = self.vectorizer.require_encoder()
        reader = self.vectorizer.text_encoder
        return encoder.embed_texts(reader.encode([text]), reader)[0]

    def _nearest(
        self, column: Column, vector: Vector, limit: int, filters: Filters
    ) -> list[tuple[str, float]]:
        found = self._memory.search(column, vector, limit, filters)
        if self._table is not None:
            try:
                found += self._table.search(column, vector, limit, filters)
            except IndexDamagedError:
                self.refresh()
                return self._nearest(column, vector, limit, filters)
        return sorted(found, key=lambda pair: -pair[1])[:limit]

    def _hits(
        self, scores: dict[str, float], parts: dict[str, dict[str, float]], top: int
    ) -> list[Hit]:
        """Hits that the catalog still knows, the best first."""
        hits: list[Hit] = []
        for entry_id in sorted(scores, key=lambda found: (-scores[found], found)):
            if len(hits) == top:
                break
            try:
                entry = self.zoo.get(entry_id)
            except ZooError:
                continue  # taken out since the index was refreshed
            own = {name: found[entry_id] for name, found in parts.items() if entry_id in found}
            hits.append(Hit(entry=entry, score=scores[entry_id], parts=own))
        return hits

    def _cosine(self, adapter: Adapter, entry_id: str) -> float | None:
        """Cosine of the delta weights; nothing where shapes differ or the entry is gone."""
        try:
            return cosine(adapter, self.zoo.load(entry_id))
        except (AdapterMismatchError, ZooError):
            return None

    def _refresh_table(self) -> None:
        name = f"vectors_{self.vectorizer.fingerprint}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = WriterLock(self.folder / _LOCK_NAME)
        except (LockedError, ZooError, OSError) as error:
            self._table = LanceTable(self.folder, name) if self.folder.is_dir() else None
            self._note(f"the index cannot be written ({error}); searched in memory")
            self._hold_missing(self._table.created() if self._table else {})
            return
        try:
            self._table = LanceTable(self.folder, name)
            self._write_missing(self._table)
            drop_tables(self.folder, keep=name)
            self._memory = MemoryTable()
        finally:
            lock.close()

    def _write_missing(self, table: LanceTable) -> None:
        """Commit what the table lacks, a batch at a time, and forget what the zoo lost."""
        ids = self.zoo.ids()
        state = {"generation": self.zoo.generation(), "ids": _digest(ids), "table": table.name}
        if _read_state(self.folder) == state and table.count() == len(ids):
            return
        held = table.created()
        missing, gone = self._difference(held)
        table.delete(gone)
        unread = 0
        for rows, failed in self.vectorizer.batches(self.zoo, missing, _BATCH):
            table.add(rows)
            unread += len(failed)
        if missing or gone:
            table.compact()
            taken = len(missing) - unread
            self._note(f"the index took in {taken} adapters and let go {len(gone)}")
        if unread:
            self._note(f"{unread} adapters cannot be read; `lora-gen zoo verify` names them")
            return
        atomic_write_json(self.folder / _STATE_NAME, state)

    def _hold_missing(self, held: dict[str, str]) -> None:
        """Vectors of what the table lacks, in memory."""
        missing, _ = self._difference(held)
        self._memory = MemoryTable(self.vectorizer.rows(self.zoo, missing)[0])
        if missing:
            self._note(f"{len(missing)} adapters are searched by brute force")

    def _difference(self, held: dict[str, str]) -> tuple[list[str], list[str]]:
        """(ids that are missing or were added again, ids to delete)."""
        created = {entry.id: entry.created for entry in self.zoo.entries()}
        missing = [entry_id for entry_id, when in created.items() if held.get(entry_id) != when]
        gone = [entry_id for entry_id, when in held.items() if created.get(entry_id) != when]
        return missing, gone

    def _note(self, line: str) -> None:
        self.repairs = (*self.repairs, line)


def default_folder(zoo: Path) -> Path:
    """Where the index of a zoo lies in the user's cache; a zoo itself may be read-only."""
    root = os.environ.get("LORA_GEN_CACHE")
    cache = Path(root) if root else Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "lora_gen"
    digest = hashlib.blake2b(str(zoo.resolve()).encode(), digest_size=8).hexdigest()
    return cache.expanduser() / "index" / digest


def _digest(ids: Sequence[str]) -> str:
    return hashlib.blake2b("".join(ids).encode(), digest_size=16).hexdigest()


def _read_state(folder: Path) -> dict[str, Any] | None:
    """What the index says it was made of; nothing where it does not say."""
    try:
        return dict(json.loads((folder / _STATE_NAME).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return None
