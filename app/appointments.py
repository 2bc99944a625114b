"""When those who are refused may come back."""

from __future__ import annotations

import time
from collections import OrderedDict

MAX_TRACKED = 10_000
MAX_AHEAD = 60.0
"""Seconds ahead of which no appointment is made."""


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
