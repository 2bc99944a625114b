"""Asking again under the same key gives the same answer: what is lost on the way is not redone."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from lora_gen.errors import ConditionError

Update = TypeVar("Update")

MAX_KEYS = 64
"""Keys that are remembered for one visitor, the newest ones."""

_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass
class _Attempt(Generic[Update]):
    """The first request under a key."""

    asked: Hashable
    done: threading.Event = field(default_factory=threading.Event)
    result: list[Update] = field(default_factory=list)
    """What came of it, as soon as it is there; empty when it failed or was cancelled."""


class Retries(Generic[Update]):
    """For each visitor, the requests that had a key, and what came of them.

    Args:
        is_result: Whether an update is the result, not a sign of progress.
        is_alive: Whether a result can still be given out.
    """

    def __init__(
        self, *, is_result: Callable[[Update], bool], is_alive: Callable[[Update], bool]
    ) -> None:
        self._is_result, self._is_alive = is_result, is_alive
        self._attempts: WeakKeyDictionary[Any, OrderedDict[str, _Attempt[Update]]]
        self._attempts = WeakKeyDictionary()
        self._lock = threading.Lock()

    def run(
        self, visitor: Any, key: str, asked: Hashable, make: Callable[[], Iterator[Update]]
    ) -> Iterator[Update]:
        """The updates of the first request under the key; for later ones, its result alone.

        One that comes while the first runs waits for it. One whose first failed, or was cancelled,
        is made anew.

        Args:
            visitor: Whose key it is; forgotten with the visitor.
            key: What the client named its request; empty for none.
            asked: The request; another one under the same key is refused.
            make: Serves the request.

        Raises:
            ConditionError: The key is malformed, or was used for another request.
        """
        if not key:
            yield from make()
            return
        while True:
            attempt, is_first = self._attempt(visitor, key, asked)
            if is_first:
                yield from self._first(visitor, key, attempt, make)
                return
            attempt.done.wait()
            if attempt.result and self._is_alive(attempt.result[0]):
                yield attempt.result[0]
                return
            self._forget(visitor, key, attempt)

    def _attempt(self, visitor: Any, key: str, asked: Hashable) -> tuple[_Attempt[Update], bool]:
        if not _KEY.fullmatch(key):
            raise ConditionError(
                "`Idempotency-Key` must have 1 to 64 letters, digits, `_` or `-`. Choose another."
            )
        with self._lock:
            own = self._attempts.setdefault(visitor, OrderedDict())
            known = own.get(key)
            if known is None:
                own[key] = _Attempt(asked)
                while len(own) > MAX_KEYS:
                    own.popitem(last=False)
                return own[key], True
        if known.asked != asked:
            raise ConditionError(
                f"`{key}` was the key of another request. Give every request a key of its own."
            )
        return known, False

    def _first(
        self,
        visitor: Any,
        key: str,
        attempt: _Attempt[Update],
        make: Callable[[], Iterator[Update]],
    ) -> Iterator[Update]:
        try:
            for update in make():
                if self._is_result(update):
                    attempt.result = [update]  # before it is given out: that may fail
                yield update
        finally:
            if not attempt.result:
                self._forget(visitor, key, attempt)
            attempt.done.set()

    def _forget(self, visitor: Any, key: str, attempt: _Attempt[Update]) -> None:
        with self._lock:
            own = self._attempts.get(visitor)
            if own is not None and own.get(key) is attempt:
                del own[key]
