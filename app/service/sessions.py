"""What belongs to one visitor: adapters in memory, files in a folder nobody else is shown."""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
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

    record: Mapping[str, Any] = field(default_factory=dict)
    """How it was made; empty for uploads."""


class Session:
    """One visitor's adapters, oldest first, and whether the running sampler has to stop."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cancelled = threading.Event()
        self.used = time.monotonic()
        self._adapters: OrderedDict[str, OwnAdapter] = OrderedDict()
        self._lock = threading.Lock()

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
                _, oldest = self._adapters.popitem(last=False)
                shutil.rmtree(oldest.folder, ignore_errors=True)
                (self.folder / f"lora-{oldest.id}.zip").unlink(missing_ok=True)

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
            _end(old)
        return session

    def close(self, key: str | None) -> None:
        """Forget a visitor: stop what runs, delete the files."""
        with self._lock:
            session = self._sessions.pop(key or "", None)
        if session is not None:
            _end(session)

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


def _end(session: Session) -> None:
    session.cancelled.set()
    shutil.rmtree(session.folder, ignore_errors=True)
