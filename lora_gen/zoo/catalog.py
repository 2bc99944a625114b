"""Door: the SQLite catalog, the truth about what a zoo holds."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lora_gen.errors import LockedError, StorageError, ZooError
from lora_gen.zoo.entry import ZooEntry
from lora_gen.zoo.schema import (
    COLUMNS,
    GUARD_TABLES,
    JSON_COLUMNS,
    OLDEST,
    SCHEMA,
    TABLES,
    row_digest,
    upgrade,
)

_APPLICATION = 0x4C475A4F  # "LGZO", so that `file` and we recognize a catalog
_BUSY_SECONDS = 5.0
_FILTERS = ("base", "family", "task", "split")


class Catalog:
    """Rows of `ZooEntry`, in one SQLite file: WAL, synchronous=FULL, immediate transactions.

    Args:
        path: The catalog file.
        create: Make the tables where there are none.
        read_only: Never write, not even beside the file; works on a read-only file system.

    Raises:
        ZooError: It is not a catalog, is damaged, or comes from a newer version.
        StorageError: It comes from an older version, and the disk refused the changes.
    """

    def __init__(self, path: Path, *, create: bool = False, read_only: bool = False) -> None:
        self.path = path
        self.read_only = read_only
        self._process = os.getpid()
        self._thread_lock = threading.RLock()
        if not create and not path.is_file():
            raise ZooError(
                f"`{path.parent}` is not a zoo: it has no `{path.name}`. Check the path, or open "
                "it with `create=True`."
            )
        with self._door():
            self._connection = _connect_read_only(path) if read_only else _connect(path)
        try:
            with self._door():
                self._recognize(create)
        except BaseException:
            self._connection.close()
            raise

    def _recognize(self, create: bool) -> None:
        version = self._pragma("user_version")
        is_empty = not self._connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
        if create and not self.read_only and version == 0 and is_empty:
            self._use_write_ahead_log()
            script = f"PRAGMA application_id={_APPLICATION};PRAGMA user_version={SCHEMA};{TABLES}"
            script += ";".join(GUARD_TABLES)
            self._connection.executescript(f"BEGIN IMMEDIATE;{script};COMMIT;")
            return
        if self._pragma("application_id") != _APPLICATION:
            raise ZooError(
                f"`{self.path}` is a SQLite file, but not the catalog of a zoo. Check the path."
            )
        if not OLDEST <= version <= SCHEMA:
            raise ZooError(
                f"`{self.path}` has schema {version}, and this version reads schema {OLDEST} to "
                f"{SCHEMA}. Update `lora_gen`."
            )
        if not self.read_only:
            self._use_write_ahead_log()
            if version < SCHEMA:
                self._upgrade()

    def _upgrade(self) -> None:
        """Bring an older catalog to this version in one transaction; a kill leaves the old one."""
        with self._transaction() as connection:
            if self._pragma("user_version") < SCHEMA:
                upgrade(connection.execute)

    def get(self, entry_id: str) -> ZooEntry | None:
        """The live entry `entry_id`, or nothing."""
        found = self._select(f"WHERE id = ? AND {self._live}", (entry_id,))
        return next(iter(found), None)

    def find(self, **filters: str | None) -> list[ZooEntry]:
        """Live entries as they were added, narrowed by `base`, `family`, `task` and `split`."""
        where, values = self._where(filters)
        return self._select(f"{where} ORDER BY position", values)

    def ids(self, **filters: str | None) -> list[str]:
        """Ids of `find`, without reading the entries."""
        where, values = self._where(filters)
        rows = self.fetch(f"SELECT id FROM entries {where} ORDER BY position", values)
        return [row[0] for row in rows]

    def ids_with_prefix(self, prefix: str, limit: int) -> list[str]:
        """At most `limit` ids of live entries that begin with `prefix`."""
        where = f"WHERE {self._live} AND substr(id, 1, ?) = ?"
        query = f"SELECT id FROM entries {where} ORDER BY id LIMIT ?"
        return [row[0] for row in self.fetch(query, (len(prefix), prefix, limit))]

    def splits_of(self, family: str) -> list[str]:
        """The splits in which `family` has live entries."""
        query = "SELECT DISTINCT split FROM entries WHERE family = ? AND removed IS NULL"
        return [row[0] for row in self.fetch(query, (family,))]

    def removed_ids(self) -> list[str]:
        """Ids whose removal is committed, and whose row is intact to the last bit."""
        query = f"SELECT {', '.join(COLUMNS)}, removed, digest FROM entries WHERE removed NOTNULL"
        removed = [row[0] for row in self.fetch(query) if row_digest(row[:-1]) == row[-1]]
        return removed + [row[0] for row in self.fetch("SELECT id FROM forgotten")]

    def generation(self) -> int:
        """Number of committed changes; what was derived at another number is stale."""
        return int(self.fetch("SELECT generation FROM state")[0][0])

    def put(self, entries: Iterable[ZooEntry]) -> None:
        """Commit `entries` in one transaction; an id whose removal was committed lives again."""
        names = (*COLUMNS, "digest")
        updates = ", ".join(f"{name} = excluded.{name}" for name in names if name != "id")
        marks = ", ".join("?" * len(names))
        statement = (
            f"INSERT INTO entries ({', '.join(names)}) VALUES ({marks}) "
            f"ON CONFLICT (id) DO UPDATE SET {updates}, removed = NULL WHERE removed IS NOT NULL"
        )
        rows = [_to_row(entry) for entry in entries]
        if not rows:
            return

        def change(connection: sqlite3.Connection) -> None:
            connection.executemany(statement, [(*row, row_digest((*row, None))) for row in rows])
            ids = [(row[0],) for row in rows]
            connection.executemany("DELETE FROM forgotten WHERE id = ?", ids)

        self.write(change)

    def mark_removed(self, entry_id: str, when: str) -> None:
        """Commit a tombstone for `entry_id`."""
        query = f"SELECT {', '.join(COLUMNS)} FROM entries WHERE id = ? AND removed IS NULL"
        statement = "UPDATE entries SET removed = ?, digest = ? WHERE id = ?"

        def change(connection: sqlite3.Connection) -> None:
            for row in connection.execute(query, (entry_id,)).fetchall():
                connection.execute(statement, (when, row_digest((*row, when)), entry_id))

        self.write(change)

    def damage(self) -> list[str]:
        """A sentence for each page and each row that is not as it was written."""
        findings = [row[0] for row in self.fetch("PRAGMA integrity_check(10)")]
        sentences = [] if findings == ["ok"] else [f"SQLite finds: {text}" for text in findings]
        if self.schema() < SCHEMA:
            return sentences  # before the digests
        names = f"{', '.join(COLUMNS)}, removed, digest"
        for row in self.fetch(f"SELECT {names} FROM entries"):
            if row_digest(row[:-1]) != row[-1]:
                sentences.append(f"the row of `{row[0]}` differs from its digest")
        return sentences

    def quick_check(self) -> None:
        """Check the file's pages.

        Raises:
            ZooError: SQLite finds damage.
        """
        findings = [row[0] for row in self.fetch("PRAGMA quick_check(3)")]
        if findings != ["ok"]:
            raise ZooError(
                f"`{self.path}` is damaged ({'; '.join(findings)}). Restore it from a copy."
            )

    def fold(self) -> None:
        """Merge the write-ahead log and turn it off; the next write turns it on again.

        The one file is then complete, and opens on read-only disks.

        Raises:
            LockedError: A reader is in the way.
        """
        with self._door():
            mode = self._connection.execute("PRAGMA journal_mode=DELETE").fetchone()[0]
        if mode != "delete":
            raise LockedError(
                f"`{self.path}` is being read, so its log cannot be merged. Close the readers."
            )

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        self._connection.close()

    def schema(self) -> int:
        """Version of the tables; a reader may find an older one than a writer."""
        with self._door():
            return self._pragma("user_version")

    def _select(self, clause: str, values: tuple[object, ...]) -> list[ZooEntry]:
        names = f"{', '.join(COLUMNS)}, {'digest' if self.schema() >= SCHEMA else 'NULL'}"
        rows = self.fetch(f"SELECT {names} FROM entries {clause}", values)
        return [self._to_entry(row[:-1], row[-1]) for row in rows]

    def _to_entry(self, row: tuple[Any, ...], digest: str | None) -> ZooEntry:
        if digest is not None and row_digest((*row, None)) != digest:
            raise ZooError(
                f"`{self.path}` holds a damaged row for `{row[0]}` (it differs from its digest). "
                "Restore it from a copy, or forget the entry and add it again."
            )
        values = dict(zip(COLUMNS, row, strict=True))
        try:
            values |= {name: json.loads(values[name]) for name in JSON_COLUMNS}
            return ZooEntry(**values)
        except (ValueError, TypeError, RecursionError) as error:
            raise ZooError(
                f"`{self.path}` holds a damaged row for `{values['id']}` ({error}). Restore it "
                "from a copy."
            ) from error

    @property
    def _live(self) -> str:
        """What holds for an entry that is served."""
        held = " AND id NOT IN (SELECT id FROM quarantine)" if self.schema() >= SCHEMA else ""
        return f"removed IS NULL{held}"

    def _where(self, filters: dict[str, str | None]) -> tuple[str, tuple[object, ...]]:
        unknown = sorted(set(filters) - set(_FILTERS))
        if unknown:
            raise ZooError(f"`{unknown[0]}` is not a filter. Use {', '.join(_FILTERS)}.")
        given = {name: value for name, value in filters.items() if value is not None}
        conditions = " AND ".join([self._live, *(f"{name} = ?" for name in given)])
        return f"WHERE {conditions}", tuple(given.values())

    def fetch(self, query: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        """Rows of a query."""
        with self._door():
            return self._connection.execute(query, values).fetchall()

    def _pragma(self, name: str) -> int:
        return int(self._connection.execute(f"PRAGMA {name}").fetchone()[0])

    def write(self, change: Callable[[sqlite3.Connection], object]) -> None:
        """Commit a change, and count it in the generation."""
        with self._door():
            self._use_write_ahead_log()
            with self._transaction() as connection:
                change(connection)
                connection.execute("UPDATE state SET generation = generation + 1")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def _use_write_ahead_log(self) -> None:
        mode = self._connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        if mode != "wal":
            raise ZooError(
                f"`{self.path}` cannot keep a write-ahead log here (journal mode `{mode}`). "
                "Keep zoos that are written on a local disk."
            )

    @contextmanager
    def _door(self) -> Iterator[None]:
        """One thread at a time, in the process that opened it; SQLite's errors as ours."""
        if os.getpid() != self._process:
            raise ZooError(
                f"`{self.path}` was opened in another process. Open the zoo again in this one."
            )
        with self._thread_lock:
            try:
                yield
            except sqlite3.Error as error:
                raise _translated(error, self.path) from error


def _connect(path: Path) -> sqlite3.Connection:
    return _configured(
        f"{path.resolve().as_uri()}?mode=rwc", "synchronous=FULL", "secure_delete=ON"
    )


def _connect_read_only(path: Path) -> sqlite3.Connection:
    address = f"{path.resolve().as_uri()}?mode=ro"
    connection = _configured(address, "query_only=ON")
    try:
        connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
        return connection
    except sqlite3.OperationalError as error:
        connection.close()
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise
        log = path.with_name(f"{path.name}-wal")
        if log.exists() and log.stat().st_size:
            raise ZooError(
                f"`{path}` has changes in `{log.name}` that cannot be read on a read-only disk. "
                "Run `checkpoint` on the zoo where it can be written, then copy it."
            ) from error
    # A catalog in WAL mode needs files beside it, which a read-only disk refuses; nobody can write
    # there either.
    return _configured(f"{address}&immutable=1", "query_only=ON")


def _configured(address: str, *pragmas: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        address, uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    for pragma in ("foreign_keys=ON", "trusted_schema=OFF", *pragmas):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _to_row(entry: ZooEntry) -> tuple[object, ...]:
    values = entry.to_dict()
    values |= {name: json.dumps(values[name], ensure_ascii=False) for name in JSON_COLUMNS}
    return tuple(values[name] for name in COLUMNS)


def _translated(error: sqlite3.Error, path: Path) -> Exception:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return LockedError(
            f"`{path}` stayed locked for {_BUSY_SECONDS:.0f} seconds ({error}). Try again."
        )
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return StorageError(
            f"`{path}` was not changed: the disk refused it ({error}). Free some space."
        )
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return ZooError(
            f"`{path}` cannot be opened or written ({error}). Open it with `read_only=True`."
        )
    return ZooError(f"`{path}` is damaged or not a catalog ({error}). Restore it from a copy.")
