"""Stop signals: the first one asks, the second one ends."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

_ENDING = (signal.SIGTERM, signal.SIGINT)
_ASKING = signal.SIGUSR1
_ECHO_SECONDS = 0.25
_PR_SET_PDEATHSIG = 1


class StopRequest:
    """Within it SIGTERM, SIGINT and SIGUSR1 only set `requested`; a second SIGTERM or SIGINT ends.

    Ending at once is safe for files: whatever is published appears by one rename. A launcher and
    the terminal may deliver one wish twice, so a signal within a quarter of a second is an echo.
    """

    def __init__(self) -> None:
        """Nothing is requested yet, and no handler is installed."""
        self.requested = ""
        """Name of the signal that asked to stop, or empty."""
        self._since = 0.0
        self._previous: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            if number in _ENDING and time.monotonic() - self._since > _ECHO_SECONDS:
                os._exit(128 + number)
            return
        self.requested, self._since = signal.Signals(number).name, time.monotonic()
        note = f"\n{self.requested}: finishing the step, then writing a checkpoint.\n"
        os.write(2, note.encode())  # print is not safe inside a signal handler

    def __enter__(self) -> StopRequest:
        """Install the handlers; outside the main thread Python has none to install."""
        if threading.current_thread() is threading.main_thread():
            self._previous = {n: signal.signal(n, self._handle) for n in (*_ENDING, _ASKING)}
            _follow_launcher()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Put the former handlers back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)


def _follow_launcher() -> None:
    """Ask to stop when `accelerate launch` dies: it does not pass signals on to its one child."""
    parent = os.getppid()
    try:
        words = Path(f"/proc/{parent}/cmdline").read_bytes().split(b"\0")
    except OSError:  # not Linux: there the process group has to be signaled
        return
    if b"launch" not in words or not any(b"accelerate" in word for word in words):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(_ASKING))
    if os.getppid() != parent:
        os.kill(os.getpid(), _ASKING)
