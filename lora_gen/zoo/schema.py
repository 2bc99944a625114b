"""The catalog's tables, their versions, and the way from an older version to this one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

SCHEMA = 2
"""2 added the digest of each row, the quarantine, the block-list and the ids to forget."""

OLDEST = 1
"""Oldest version that is read; a writer that opens it brings it to this one."""

JSON_COLUMNS = ("descriptions", "prompts", "examples", "extra")
COLUMNS = (
    *("id", "base", "family", "task", "split", *JSON_COLUMNS),
    *("seed", "steps", "accuracy", "rank", "created"),
)
TABLES = """
CREATE TABLE entries (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    base TEXT NOT NULL,
    family TEXT NOT NULL,
    task TEXT NOT NULL,
    split TEXT NOT NULL,
    descriptions TEXT NOT NULL,
    prompts TEXT NOT NULL,
    examples TEXT NOT NULL,
    extra TEXT NOT NULL,
    seed INTEGER,
    steps INTEGER,
    accuracy REAL,
    rank INTEGER NOT NULL,
    created TEXT NOT NULL,
    removed TEXT,
    digest TEXT
);
CREATE INDEX entries_by_family ON entries (family);
CREATE INDEX entries_by_task ON entries (task);
CREATE TABLE state (generation INTEGER NOT NULL);
INSERT INTO state VALUES (0);
"""
GUARD_TABLES = (
    "CREATE TABLE quarantine (id TEXT PRIMARY KEY, reason TEXT NOT NULL, created TEXT NOT NULL)",
    "CREATE TABLE blocked (hash TEXT PRIMARY KEY, reason TEXT NOT NULL, created TEXT NOT NULL)",
    "CREATE TABLE forgotten (id TEXT PRIMARY KEY, created TEXT NOT NULL)",
)

Execute = Callable[..., Iterable[tuple[Any, ...]]]
"""A connection's `execute`."""


def upgrade(execute: Execute) -> None:
    """Bring the tables of version 1 to this one, inside the caller's transaction."""
    execute("ALTER TABLE entries ADD COLUMN digest TEXT")
    for statement in GUARD_TABLES:
        execute(statement)
    names = f"{', '.join(COLUMNS)}, removed"
    for row in list(execute(f"SELECT {names} FROM entries")):
        execute("UPDATE entries SET digest = ? WHERE id = ?", (row_digest(row), row[0]))
    execute(f"PRAGMA user_version={SCHEMA}")


def row_digest(values: Sequence[object]) -> str:
    """Digest of one row: the values of `COLUMNS`, then `removed`.

    SQLite's own check finds broken pages, but not a bit that flipped inside a value.
    """
    text = json.dumps(list(values), ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
