"""Visitors take turns: whoever asks for much at once waits behind whoever asks for little."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any


class Line(list[Any]):
    """Requests that wait: everybody's first ones, in the order they came, then the second ones.

    Those of a visitor that run already count, so that nobody has two turns before another has one.

    Args:
        running: The requests that run now.
    """

    def __init__(self, running: Callable[[], Iterable[Any]]) -> None:
        super().__init__()
        self._running = running

    def append(self, request: Any) -> None:
        """Let a request wait at its place."""
        before = Counter(one.session_hash for one in self._running())
        turn = before[request.session_hash]
        turn += sum(one.session_hash == request.session_hash for one in self)
        for place, other in enumerate(self):
            if before[other.session_hash] > turn:
                self.insert(place, request)
                return
            before[other.session_hash] += 1
        super().append(request)


def take_turns(page: Any) -> None:
    """Make every line of a built page's queue one of turns.

    Args:
        page: The `gr.Blocks`, with its queue, before the first visitor.
    """
    queue = page._queue
    for fn in page.fns.values():
        queue.create_event_queue_for_fn(fn)

    def running(name: str) -> Iterable[Any]:
        jobs = (event for job in queue.active_jobs if job for event in job)
        return (event for event in jobs if event.concurrency_id == name)

    for name, line in queue.event_queue_per_concurrency_id.items():
        line.queue = Line(lambda name=name: running(name))  # type: ignore[misc]
