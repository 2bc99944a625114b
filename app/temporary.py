"""The bound on temporary files: uploads that nobody used go first, then the oldest sessions."""

from __future__ import annotations

import os
import re
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

QUOTA_BYTES = 4_000_000_000
"""What all visitors' temporary files may have together."""

_UPLOAD = re.compile(r"[0-9a-f]{64}")
"""The folder of an upload, named by the hash of its content."""

COUNT_SECONDS = 5.0
"""A count of all files is good for so long: sessions write what no upload announced."""

_ENOUGH, _FREED = 0.95, 0.9
"""Shares of the quota: up to the first a count is not repeated, down to the second is cleaned."""

YOUNG_SECONDS = 120.0
"""An upload younger than that may be about to be used, and stays."""


class TemporaryRoom:
    """The app's temporary folder, kept below a quota.

    Args:
        work: The folder; `gradio` in it holds uploads, `sessions` what sessions keep.
        close_oldest: Ends the session that has been idle longest; False when none is left.
        quota: Bytes that everything may have together.
        young: Seconds during which an upload is never taken away.
    """

    def __init__(
        self,
        work: Path,
        *,
        close_oldest: Callable[[], bool],
        quota: int = QUOTA_BYTES,
        young: float = YOUNG_SECONDS,
    ) -> None:
        self.work, self.quota = work, quota
        self._young, self._close_oldest = young, close_oldest
        self._lock = threading.Lock()
        self._counted, self._counted_at = 0, float("-inf")

    def used(self) -> int:
        """Bytes of all temporary files."""
        return sum(size for _, _, size in _files(self.work))

    def make(self, needed: int) -> bool:
        """Make room for so many bytes; False when there is none to be made."""
        if needed > self.quota:
            return False
        with self._lock:
            fresh = time.monotonic() - self._counted_at < COUNT_SECONDS
            if not fresh or self._counted + needed > _ENOUGH * self.quota:
                self._drop_left_over()
                self._counted, self._counted_at = self._freed(needed), time.monotonic()
            self._counted += needed
            return self._counted <= self.quota

    def _freed(self, needed: int) -> int:
        """Bytes used after cleaning, if that is needed at all; more at once than has to be.

        Every count walks through all files, so a full room would be counted for each upload.
        """
        used = self.used()
        if used + needed <= self.quota:
            return used
        spare = max(needed, int((1 - _FREED) * self.quota))
        self._drop_uploads(spare)
        while (used := self.used()) + spare > self.quota and self._close_oldest():
            pass
        return used

    def _drop_left_over(self) -> None:
        """Delete what Gradio never does: an empty file for each upload used, and empty folders."""
        oldest_kept = time.time() - self._young
        for path in (self.work / "gradio").glob("*"):
            with suppress(OSError):  # it is gone, or no longer empty
                status = path.lstat()
                if status.st_mtime > oldest_kept:
                    continue
                if path.name.startswith("tmp") and stat.S_ISREG(status.st_mode):
                    if status.st_size == 0:
                        path.unlink()
                elif _UPLOAD.fullmatch(path.name):
                    path.rmdir()

    def _drop_uploads(self, needed: int) -> None:
        """Delete uploads, the oldest first, until there is room or only young ones are left."""
        used, oldest_kept = self.used(), time.time() - self._young
        for changed, path, size in sorted(_files(self.work / "gradio")):
            if used + needed <= self.quota or changed > oldest_kept:
                return
            path.unlink(missing_ok=True)
            if not any(path.parent.iterdir()):
                shutil.rmtree(path.parent, ignore_errors=True)
            used -= size


def _files(folder: Path) -> Iterator[tuple[float, Path, int]]:
    """(time of change, path, bytes) of every file; those that vanish meanwhile are left out."""
    for place, _, names in os.walk(folder):  # `rglob` fails when a folder vanishes under it
        for name in names:
            path = Path(place, name)
            try:
                status = path.lstat()
            except FileNotFoundError:
                continue
            yield status.st_mtime, path, status.st_size
