"""Zoos as version 1 of the catalog wrote them: a frozen copy of that version's statements.

It repeats `lora_gen/zoo/schema.py` on purpose and is never brought up to date with it: what version
1 wrote does not change when version 3 comes.
"""

import shutil
import sqlite3
from pathlib import Path

from zoo_factories import fill_zoo

from lora_gen.zoo.schema import COLUMNS

APPLICATION = 0x4C475A4F
TABLES_1 = """
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
    removed TEXT
);
CREATE INDEX entries_by_family ON entries (family);
CREATE INDEX entries_by_task ON entries (task);
CREATE TABLE state (generation INTEGER NOT NULL);
INSERT INTO state VALUES (7);
"""


def make_old_zoo(folder: Path, count: int) -> list[str]:
    """A zoo of version 1 with `count` live entries, and one more whose removal was cut off."""
    ids = fill_zoo(folder, count + 1)
    path = folder / "catalog.sqlite"
    with sqlite3.connect(path) as new:
        rows = new.execute(f"SELECT {', '.join(COLUMNS)} FROM entries ORDER BY position").fetchall()
    new.close()
    shutil.move(path, folder.parent / "newer.sqlite")
    old = sqlite3.connect(path, isolation_level=None)
    old.execute("PRAGMA journal_mode=WAL")
    old.executescript(f"PRAGMA application_id={APPLICATION};PRAGMA user_version=1;{TABLES_1}")
    marks = ", ".join("?" * len(COLUMNS))
    old.executemany(f"INSERT INTO entries ({', '.join(COLUMNS)}) VALUES ({marks})", rows)
    old.execute("UPDATE entries SET removed = '2026-01-01' WHERE id = ?", (ids[-1],))
    old.close()
    (folder.parent / "newer.sqlite").unlink()
    return ids[:-1]
