"""What an operator takes out of a zoo: entries in quarantine, blocked hashes, forgotten entries."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime

from lora_gen.errors import StorageError, ZooError
from lora_gen.zoo.catalog import Catalog
from lora_gen.zoo.folders import AdapterFolders
from lora_gen.zoo.schema import SCHEMA

_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class Guard:
    """Quarantine and block-list of one zoo; every change is committed before it returns."""

    def __init__(self, catalog: Catalog, folders: AdapterFolders) -> None:
        self._catalog = catalog
        self._folders = folders

    def quarantine(self, entry_id: str, reason: str) -> None:
        """Keep `entry_id` with its files, but serve it to nobody until it is released.

        Raises:
            ZooError: There is no such entry, no reason, or the zoo is read-only.
        """
        self._require_writer()
        if not reason.strip():
            raise ZooError("`reason` is empty; a quarantine says why. Pass a sentence.")
        self._require_known(entry_id)
        statement = "INSERT OR REPLACE INTO quarantine VALUES (?, ?, ?)"
        self._catalog.write(lambda c: c.execute(statement, (entry_id, reason, now())))

    def release(self, entry_id: str) -> None:
        """Serve `entry_id` again.

        Raises:
            ZooError: It is not in quarantine, or the zoo is read-only.
        """
        self._require_writer()
        if entry_id not in self.quarantined():
            raise ZooError(f"`{entry_id}` is not in quarantine. `zoo quarantine` lists what is.")
        statement = "DELETE FROM quarantine WHERE id = ?"
        self._catalog.write(lambda c: c.execute(statement, (entry_id,)))

    def quarantined(self) -> dict[str, str]:
        """Id -> reason of every entry in quarantine."""
        return self._reasons("SELECT id, reason FROM quarantine ORDER BY id")

    def block(self, content_hash: str, reason: str = "") -> None:
        """Refuse to add what has this hash from now on; entries that are there stay.

        Args:
            content_hash: An entry's id (40 hex digits), or the sha256 of a weight file (64).
            reason: For people.

        Raises:
            ZooError: It is no hash, or the zoo is read-only.
        """
        self._require_writer()
        if not _HASH.fullmatch(content_hash):
            raise ZooError(
                f"`{content_hash[:80]}` is not a hash. Pass an entry's id (40 hex digits) or the "
                "sha256 of a weight file (64 hex digits)."
            )
        statement = "INSERT OR REPLACE INTO blocked VALUES (?, ?, ?)"
        self._catalog.write(lambda c: c.execute(statement, (content_hash, reason, now())))

    def unblock(self, content_hash: str) -> None:
        """Let this hash in again.

        Raises:
            ZooError: It is not on the block-list, or the zoo is read-only.
        """
        self._require_writer()
        if content_hash not in self.blocked():
            raise ZooError(f"`{content_hash[:80]}` is not on the block-list. `zoo block` lists it.")
        statement = "DELETE FROM blocked WHERE hash = ?"
        self._catalog.write(lambda c: c.execute(statement, (content_hash,)))

    def blocked(self) -> dict[str, str]:
        """Hash -> reason of everything on the block-list."""
        return self._reasons("SELECT hash, reason FROM blocked ORDER BY hash")

    def require_allowed(self, hashes: Iterable[str]) -> None:
        """Check that nothing about to be added is blocked or in quarantine.

        Raises:
            ZooError: A hash is; the sentence gives the reason.
        """
        blocked, quarantined = self.blocked(), self.quarantined()
        for value in hashes:
            if value in blocked:
                why = f" ({blocked[value]})" if blocked[value] else ""
                raise ZooError(
                    f"`{value}` is on the block-list of `{self._catalog.path.parent}`{why}, so it "
                    "is not added. An operator may take it off with `zoo block --remove`."
                )
            if value in quarantined:
                raise ZooError(
                    f"`{value}` is in quarantine ({quarantined[value]}), so it is not added. An "
                    "operator may release it with `zoo quarantine --release`."
                )

    def find_id(self, prefix: str) -> str:
        """The one id that begins with `prefix`, in quarantine or not, intact or not.

        Raises:
            ZooError: None does, or several do.
        """
        query = "SELECT id FROM entries WHERE substr(id, 1, ?) = ? AND removed IS NULL LIMIT 2"
        found = [row[0] for row in self._catalog.fetch(query, (len(prefix), prefix))]
        if not prefix or len(found) != 1:
            raise ZooError(
                f"`{prefix}` begins {'several ids' if found else 'no id'} in "
                f"`{self._catalog.path.parent}`. `lora-gen zoo list` shows all."
            )
        return str(found[0])

    def forget(self, entry_id: str) -> bool:
        """Delete the row and the files of `entry_id`; no word of it stays in the catalog.

        Returns:
            Whether the files and every word of the row are gone from the disk; where it refused, or
            a reader was in the way, the next writer clears them.

        Raises:
            ZooError: There is no such entry, or the zoo is read-only.
        """
        self._require_writer()
        self._require_known(entry_id)
        self._catalog.write(
            lambda c: (
                c.execute("INSERT OR REPLACE INTO forgotten VALUES (?, ?)", (entry_id, now())),
                c.execute("DELETE FROM quarantine WHERE id = ?", (entry_id,)),
                c.execute("DELETE FROM entries WHERE id = ?", (entry_id,)),
            )
        )
        gone = self._folders.discard(entry_id)
        try:
            ((busy, *_),) = self._catalog.fetch("PRAGMA wal_checkpoint(TRUNCATE)")
        except StorageError:
            return False  # the entry is forgotten, but the log still holds the words of its row
        return gone and not busy

    def _reasons(self, query: str) -> dict[str, str]:
        if self._catalog.schema() < SCHEMA:
            return {}  # a reader of an older catalog, which had neither
        return dict(self._catalog.fetch(query))

    def _require_known(self, entry_id: str) -> None:
        if not self._catalog.fetch("SELECT 1 FROM entries WHERE id = ?", (entry_id,)):
            raise ZooError(
                f"`{entry_id[:80]}` is not in `{self._catalog.path.parent}`. `lora-gen zoo list` "
                "shows all."
            )

    def _require_writer(self) -> None:
        if self._catalog.read_only:
            raise ZooError(
                f"`{self._catalog.path.parent}` is open for reading only. Open it without "
                "`read_only`."
            )


def now() -> str:
    """The time in the catalog's form: UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
