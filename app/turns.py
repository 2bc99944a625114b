"""Visitors take turns: whoever asks for much at once waits behind whoever asks for little.

Where several requests run at once, one visitor has at most half of the places, so that another one
finds a place free.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
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


class Turns:
    """Chooses who is next, in the place of the queue's own `get_events`.

    Args:
        queue: Gradio's queue.
    """

    def __init__(self, queue: Any) -> None:
        self._queue = queue

    def running(self, name: str) -> list[Any]:
        """The requests of a line that run now."""
        jobs = (event for job in self._queue.active_jobs if job for event in job)
        return [event for event in jobs if event.concurrency_id == name]

    def __call__(self) -> tuple[list[Any], bool, str] | None:
        """The next request, taken out of its line, and the line's name; None when all wait."""
        lines = list(self._queue.event_queue_per_concurrency_id.items())
        random.shuffle(lines)
        for name, line in lines:
            limit = line.concurrency_limit
            if line.queue and (limit is None or line.current_concurrency < limit):
                found = self._first(line.queue, name, share=max(1, (limit or 2) // 2))
                if found is not None:
                    line.queue.remove(found)
                    return [found], False, name
        return None

    def _first(self, waiting: Iterable[Any], name: str, *, share: int) -> Any:
        busy = Counter(event.session_hash for event in self.running(name))
        return next((event for event in waiting if busy[event.session_hash] < share), None)


def take_turns(page: Any) -> None:
    """Make every line of a built page's queue one of turns.

    Args:
        page: The `gr.Blocks`, with its queue, before the first visitor; none of its functions
            takes requests in batches.
    """
    queue = page._queue
    for fn in page.fns.values():
        queue.create_event_queue_for_fn(fn)
    turns = queue.get_events = Turns(queue)
    for name, line in queue.event_queue_per_concurrency_id.items():
        line.queue = Line(partial(turns.running, name))
