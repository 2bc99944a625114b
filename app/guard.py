"""What a request must be before Gradio sees it: host, origin, size, rate, and room in the queue."""

from __future__ import annotations

import json
import math
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from app.appointments import MAX_TRACKED, Appointments
from app.messages import (
    App,
    Receive,
    Scope,
    Send,
    calling_before,
    counted,
    read_body,
    refuse,
    replay,
    with_headers,
)

Refusal = tuple[int, str] | tuple[int, str, float]
"""Status, sentence, and seconds until it may be tried again."""

MAX_BODY = 1_000_000
MAX_UPLOAD = 520_000_000
"""An upload of 512 MB and the parts around it."""

MAX_HEADERS = 100
OWN_PACE = 0.5
"""Seconds between two tries of a visitor who has too many requests running."""

FEW = 4
"""So many may always wait: one slow request, such as the first, must not shut out the next."""

JOIN, CALL, UPLOAD = "/gradio_api/queue/join", "/gradio_api/call/", "/gradio_api/upload"

EXPECTED_WAIT, LONGEST_WAIT = b"x-expected-wait", b"x-longest-wait"
"""Seconds, told to everybody who is let in: until their answer, and the longest until a turn."""

FILES = ("/assets/", "/static/", "/theme.css")
FILE_COST = 0.05
"""Share of a request that a file of the page costs. A first visit asks for about ninety; a page
that is refused one of them waits for ever."""

_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self' blob:; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors {ancestors}"
)


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """How full a line of the queue is, as whoever asks sees it."""

    total: int
    """Requests that wait in it."""

    mine: int
    """Requests of the same session in the same line that wait or run."""

    allowed: int = 2
    """How many of them there may be."""

    seconds: float
    """Until there is room again, as estimated."""

    each: float = 1.0
    """Between two of them that are done, as measured."""

    takes: float = 1.0
    """From the turn of one to its answer."""


@dataclass(frozen=True, kw_only=True)
class GuardConfig:
    """What is let in."""

    hosts: tuple[str, ...]
    requests_per_minute: int = 600
    max_queue: int = 32
    longest_wait: float = 120.0
    """Seconds that a request may have to wait, as estimated from those before it."""

    embed: bool = False
    """Whether any page may show the app in a frame."""


@dataclass
class _Bucket:
    """Tokens of one address; each request pays its cost."""

    tokens: float
    at: float = field(default_factory=time.monotonic)


class Guard:
    """ASGI middleware: refuses early, in a sentence, and adds the security headers."""

    def __init__(
        self, app: App, *, config: GuardConfig, waiting: Callable[[str, int | str], Waiting]
    ) -> None:
        self._app = app
        self._config = config
        self._waiting = waiting
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._appointments = Appointments()
        self._admitted: Counter[tuple[str, str]] = Counter()
        ancestors = "*" if config.embed else "'none'"
        self._headers = [
            (b"content-security-policy", _POLICY.format(ancestors=ancestors).encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
            (b"cross-origin-opener-policy", b"same-origin"),
        ]
        if not config.embed:
            self._headers.append((b"x-frame-options", b"DENY"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, or refuse, one request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send = with_headers(self._headers, send)
        refused = self._refusal(scope)
        if refused is not None:
            await refuse(send, *refused)
            return
        limit = MAX_UPLOAD if scope["path"] == UPLOAD else MAX_BODY
        if scope["method"] == "POST" and scope["path"].startswith((JOIN, CALL)):
            body = await read_body(receive, limit)
            if body is None:
                await refuse(send, 413, _too_large(limit))
                return
            try:
                session, target = _asked(body, scope["path"])
            except ValueError as error:
                await refuse(send, 400, str(error))
                return
            waiting = self._seen(session, target)
            busy = self._busy(waiting, session, target)
            if busy is not None:
                await refuse(send, *busy)
                return
            send = self._promising(waiting, send)
            leave = self._enter(session, target)
            try:
                await self._app(scope, replay(body, receive), calling_before(leave, send))
            finally:
                leave()
            return
        await self._app(scope, counted(receive, limit), send)

    def _refusal(self, scope: Scope) -> Refusal | None:
        headers = scope["headers"]
        if len(headers) > MAX_HEADERS:
            return 431, f"The request has more than {MAX_HEADERS} headers."
        found = {name.lower(): value.decode("latin-1") for name, value in headers}
        host = _host(found.get(b"host", ""))
        if host not in self._config.hosts:
            return 421, f"This app is not served as {host[:100]!r}. Use its own address."
        origin = found.get(b"origin")
        if origin and scope["method"] != "GET" and not self._is_own(origin):
            return 403, "Another site sent this request. Open the app itself."
        length = found.get(b"content-length", "0")
        limit = MAX_UPLOAD if scope["path"] == UPLOAD else MAX_BODY
        if not length.isdigit() or int(length) > limit:
            return 413, _too_large(limit)
        is_file = scope["method"] == "GET" and scope["path"].startswith(FILES)
        address = str((scope.get("client") or ("",))[0])
        wait = self._pay(address, cost=FILE_COST if is_file else 1.0)
        if wait is None:
            return None
        return 429, f"Too many requests. Try again in {math.ceil(wait)} s.", wait

    def _is_own(self, origin: str) -> bool:
        return _host(urlsplit(origin).netloc) in self._config.hosts

    def _pay(self, address: str, *, cost: float) -> float | None:
        """None when the address may go on, else the seconds until it may."""
        rate = self._config.requests_per_minute / 60
        bucket = self._buckets.setdefault(address, _Bucket(self._config.requests_per_minute))
        self._buckets.move_to_end(address)
        while len(self._buckets) > MAX_TRACKED:
            self._buckets.popitem(last=False)
        now = time.monotonic()
        full = float(self._config.requests_per_minute)
        bucket.tokens = min(full, bucket.tokens + (now - bucket.at) * rate)
        bucket.at = now
        if bucket.tokens < cost:
            return max(1.0, (cost - bucket.tokens) / rate)
        bucket.tokens -= cost
        return None

    def _enter(self, session: str, target: int | str) -> Callable[[], None]:
        """Count a request from its admission until it is answered: then it waits in its line.

        Of a hundred that come at once, each would else see the line as it was before all others.
        """
        places = [("of", session), ("for", str(target))]
        self._admitted.update(places)

        def leave() -> None:
            self._admitted.subtract(places)
            self._admitted += Counter()  # forgets those that are zero
            places.clear()

        return leave

    def _seen(self, session: str, target: int | str) -> Waiting:
        """The line as it is once those are in it that were admitted just now."""
        found = self._waiting(session, target)
        more = self._admitted["for", str(target)]
        return replace(
            found,
            mine=found.mine + self._admitted["of", session],
            total=found.total + more,
            seconds=found.seconds + more * found.each,
        )

    def _promising(self, waiting: Waiting, send: Send) -> Send:
        """The same `send`, which tells when the answer comes, and the longest wait for a turn."""
        longest = self.longest(waiting.each)
        told = [
            (EXPECTED_WAIT, f"{waiting.seconds + waiting.takes:.2f}".encode()),
            (LONGEST_WAIT, f"{longest:.2f}".encode()),
        ]
        return with_headers(told, send)

    def longest(self, each: float) -> float:
        """Seconds that somebody who is let in may have to wait.

        Args:
            each: Between two requests that are done, as measured.
        """
        room = min(self._config.longest_wait, self._config.max_queue * each)
        return max(room, FEW * each)

    def _busy(self, waiting: Waiting, session: str, target: int | str) -> Refusal | None:
        if waiting.mine >= waiting.allowed:
            each = max(OWN_PACE, waiting.each)
            wait = self._appointments.book(f"of {session}", soonest=1.0, each=each)
            mine = f"{waiting.mine} of your requests are running."
            return 429, f"{mine} Wait for one, or cancel it.", wait
        full = waiting.total >= self._config.max_queue
        late = waiting.total >= FEW and waiting.seconds > self._config.longest_wait
        if full or late:
            soonest = max(1.0, waiting.seconds)
            wait = self._appointments.book(f"for {target}", soonest=soonest, each=waiting.each)
            return 503, f"The app is busy. Try again in {math.ceil(wait)} s.", wait
        return None


def _asked(body: bytes, path: str) -> tuple[str, int | str]:
    """(whose request it is, which function it asks for).

    Raises:
        ValueError: It is no request to the queue.
    """
    try:
        asked = json.loads(body)
        session, target = asked.get("session_hash"), asked.get("fn_index")
    except (ValueError, RecursionError, AttributeError) as error:
        raise ValueError("The request is not a JSON object.") from error
    if not isinstance(session, str) or not 8 <= len(session) <= 128:
        raise ValueError("`session_hash` must be a text of 8 to 128 characters.")
    if path.startswith(CALL):
        target = path.removeprefix(CALL).strip("/")
    return session, target if isinstance(target, int | str) else ""


def _host(value: str) -> str:
    """A host name without its port, in lowercase."""
    value = value.lower()
    if value.startswith("["):
        return value.split("]")[0] + "]"
    return value.rsplit(":", 1)[0] if ":" in value else value


def _too_large(limit: int) -> str:
    return f"The request is larger than {limit:,} bytes."
