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

    def used(self) -> int:
        """Bytes of all temporary files."""
        return sum(size for _, _, size in _files(self.work))

    def make(self, needed: int) -> bool:
        """Make room for so many bytes; False when there is none to be made."""
        if needed > self.quota:
            return False
        with self._lock:
            self._drop_left_over()
            if self.used() + needed <= self.quota:
                return True
            self._drop_uploads(needed)
            while self.used() + needed > self.quota:
                if not self._close_oldest():
                    return False
            return True

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
