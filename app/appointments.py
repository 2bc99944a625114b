"""When those who are refused may come back."""

from __future__ import annotations

import time
from collections import OrderedDict, deque

MAX_TRACKED = 10_000
MAX_AHEAD = 60.0
"""Seconds ahead of which no appointment is made."""


RECENT = 32
"""Requests whose times are remembered."""


class Lately:
    """How long requests took lately, in the place of Gradio's mean since its start."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=RECENT)
        self.process_time = self.avg_time = 0.0
        self.count = 0

    def add(self, time: float) -> None:
        """Remember one more."""
        self._seconds.append(time)
        self.process_time, self.count = sum(self._seconds), len(self._seconds)
        self.avg_time = self.process_time / self.count


class Appointments:
    """When the refused may come back: one after the other, since all at once would be refused."""

    def __init__(self) -> None:
        self._booked: OrderedDict[str, float] = OrderedDict()

    def book(self, line: str, *, soonest: float, each: float) -> float:
        """Seconds until the next free appointment.

        Args:
            line: Those who are served one after the other.
            soonest: Seconds before which there is no room for anybody.
            each: Seconds from one appointment to the next.
        """
        now = time.monotonic()
        next_one = self._booked.get(line, 0.0) + each
        at = min(max(now + soonest, next_one), now + max(soonest, MAX_AHEAD))
        self._booked[line] = at
        self._booked.move_to_end(line)
        while len(self._booked) > MAX_TRACKED:
            self._booked.popitem(last=False)
        return at - now
