"""Stop signals: the first one asks, the second one ends."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """Within it, SIGTERM and SIGINT only set `requested`; a second signal ends the process at once.

    Ending at once is safe for files: whatever is published appears by one rename.
    """

    def __init__(self) -> None:
        """Nothing is requested yet, and no handler is installed."""
        self.requested = ""
        """Name of the signal that asked to stop, or empty."""
        self._previous: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            os._exit(128 + number)
        self.requested = signal.Signals(number).name
        note = f"\n{self.requested}: finishing the step, then writing a checkpoint.\n"
        os.write(2, note.encode())  # print is not safe inside a signal handler

    def __enter__(self) -> StopRequest:
        """Install the handlers; outside the main thread Python has none to install."""
        if threading.current_thread() is threading.main_thread():
            self._previous = {n: signal.signal(n, self._handle) for n in _SIGNALS}
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
