"""What belongs to one visitor: adapters in memory, files in a folder nobody else is shown."""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lora_gen.adapter.adapter import Adapter
from lora_gen.errors import AdapterFormatError, ConditionError

MAX_SESSIONS = 200
MAX_ADAPTERS = 24
IDLE_SECONDS = 3_600.0


@dataclass(frozen=True, kw_only=True)
class OwnAdapter:
    """An adapter that a visitor generated or uploaded."""

    id: str
    """Unguessable; names its files too."""

    title: str
    """What a menu shows; untrusted text."""

    adapter: Adapter
    folder: Path
    """Its files, as they are downloaded or were uploaded."""

    source: str
    """`generated` or `uploaded`."""

    task: str | None = None
    """What it was asked to do; untrusted text."""

    record: Mapping[str, Any] = field(default_factory=dict)
    """How it was made; empty for uploads."""


class CancelledError(Exception):
    """The visitor cancelled, or left."""


class Session:
    """One visitor's adapters, oldest first, and the work that runs for them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.used = time.monotonic()
        self._adapters: OrderedDict[str, OwnAdapter] = OrderedDict()
        self._asked: threading.Event | None = None
        self._running: list[threading.Event] = []
        self._closed = False
        self._lock = threading.Lock()

    def ask(self) -> bool:
        """Announce work, which can be cancelled from now on; False while other work runs."""
        with self._lock:
            if self._running:
                return False
            self._asked = threading.Event()
            return True

    @contextmanager
    def work(self, *, asked: bool = False) -> Iterator[threading.Event]:
        """A block of work that ends early once its event is set.

        Args:
            asked: Whether it is the one that `ask` announced.
        """
        with self._lock:
            cancelled = self._asked if asked and self._asked else threading.Event()
            self._asked = None if asked else self._asked
            self._running.append(cancelled)
            if self._closed:
                cancelled.set()
        try:
            yield cancelled
        finally:
            with self._lock:
                self._running.remove(cancelled)
                closed = self._closed
            if closed:  # what the work wrote after `close` would stay for ever
                shutil.rmtree(self.folder, ignore_errors=True)

    def cancel(self) -> int:
        """Stop what runs and what was asked for; how many pieces of work that were."""
        with self._lock:
            found = [*self._running, *([self._asked] if self._asked else [])]
        for cancelled in found:
            cancelled.set()
        return len(found)

    def close(self) -> None:
        """Stop what runs, forget the adapters, delete the files."""
        with self._lock:
            self._closed = True
            self._adapters.clear()
        self.cancel()
        shutil.rmtree(self.folder, ignore_errors=True)

    def new_folder(self) -> tuple[str, Path]:
        """A fresh id and the folder, not yet made, for its files."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = secrets.token_hex(8)
        return new, self.folder / new

    def keep(self, own: OwnAdapter) -> None:
        """Remember an adapter; beyond the bound the oldest one and its files are forgotten."""
        with self._lock:
            self._adapters[own.id] = own
            while len(self._adapters) > MAX_ADAPTERS:
                self._delete(self._adapters.popitem(last=False)[1])

    def drop(self, id: str) -> None:
        """Forget an adapter and its files, if it is there."""
        with self._lock:
            own = self._adapters.pop(id, None)
            if own is not None:
                self._delete(own)

    def adapters(self) -> list[OwnAdapter]:
        """All adapters, newest first."""
        with self._lock:
            return list(reversed(self._adapters.values()))

    def get(self, id: str) -> OwnAdapter:
        """The adapter of that id.

        Raises:
            AdapterFormatError: This visitor has none.
        """
        with self._lock:
            found = self._adapters.get(id)
        if found is None:
            raise AdapterFormatError(
                f"`{id[:40]}` is not an adapter of this visit. Generate or upload it again."
            )
        return found

    def _delete(self, own: OwnAdapter) -> None:
        top = self.folder / own.id
        shutil.rmtree(top, ignore_errors=True)
        for zip in self.folder.glob(f"lora-{own.id}*.zip"):
            zip.unlink(missing_ok=True)


class Sessions:
    """Every visitor's session, by the key that only the visitor's browser has."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str | None) -> Session:
        """The visitor's session, made at the first visit.

        Raises:
            ConditionError: The request does not say whose it is.
        """
        if not key:
            raise ConditionError(
                "The request has no session, so its results could not be kept apart. "
                "Call the app through its page or through `gradio_client`."
            )
        with self._lock:
            if key not in self._sessions:
                self._sessions[key] = Session(self.root / secrets.token_hex(16))
            session = self._sessions[key]
            session.used = time.monotonic()
            self._sessions.move_to_end(key)
            stale = self._stale()
        for old in stale:
            old.close()
        return session

    def close(self, key: str | None) -> None:
        """Forget a visitor: stop what runs, delete the files."""
        with self._lock:
            session = self._sessions.pop(key or "", None)
        if session is not None:
            session.close()

    def close_oldest(self) -> bool:
        """Forget the visitor who has been idle longest; False when there is none."""
        with self._lock:
            key = next(iter(self._sessions), None)
        self.close(key)
        return key is not None

    def __len__(self) -> int:
        return len(self._sessions)

    def _stale(self) -> list[Session]:
        """Sessions beyond the bound or idle too long, taken out."""
        oldest_use = time.monotonic() - IDLE_SECONDS
        found = []
        while self._sessions:
            key, first = next(iter(self._sessions.items()))
            if len(self._sessions) <= MAX_SESSIONS and first.used > oldest_use:
                break
            del self._sessions[key]
            found.append(first)
        return found
