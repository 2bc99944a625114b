"""The kernel lock that lets one writer into a zoo.

The lock dies with its process, so a stale lock, a reused process id or a clock jump does no harm:
the kernel decides, and the file's content only names the holder for people.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from lora_gen.closing import Closing
from lora_gen.errors import LockedError, ZooError


class WriterLock(Closing):
    """An exclusive `flock` on one file, held until `close` or the end of the process.

    Args:
        path: The lock file; made if it does not exist, never deleted (deleting would let two
        writers in).

    Raises:
        LockedError: Somebody else holds it; the message names the holder.
        ZooError: The file cannot be opened, or this platform has no `flock`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise ZooError(
                f"`{path.parent}` cannot be opened for writing ({error.strerror}). Open it with "
                "`read_only=True`."
            ) from error
        try:
            self._acquire()
        except BaseException:
            os.close(self._descriptor)
            raise
        with suppress(OSError):  # on a full disk the lock holds too, and entries can be removed
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, _holder().encode(), 0)

    def _acquire(self) -> None:
        try:
            import fcntl
        except ImportError as error:
            raise ZooError(
                f"`{self._path.parent}` cannot be locked, since this platform has no `flock`. "
                "Open it with `read_only=True`."
            ) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(self._descriptor, 300, 0).decode(errors="replace").strip()
            raise LockedError(
                f"`{self._path.parent}` is being written by {holder or 'another process'}. "
                "Wait until it is done, or open the zoo with `read_only=True`."
            ) from error

    def close(self) -> None:
        """Let the next writer in. Safe to call twice."""
        if self._descriptor >= 0:
            with suppress(OSError):
                os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = -1


def _holder() -> str:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return f"process {os.getpid()} on {socket.gethostname()} since {since}"
