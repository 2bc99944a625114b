"""What surrounds an upload: whose it is, how long it may take, and how much room there is."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException

from app.guard import CALL, JOIN, UPLOAD
from app.messages import App, Message, Receive, Scope, Send, read_body, refuse, replay
from app.temporary import TemporaryRoom

LOGGER = logging.getLogger("lora_gen.app")
COOKIE = "lora_gen_visitor"
MAX_REMEMBERED = 20_000
MAX_RANGE = 200
"""Characters of a Range header; a long list of ranges costs the server more than the client."""

_BODY = 1_000_000


@dataclass(frozen=True, kw_only=True)
class UploadGateConfig:
    """What an upload may take."""

    idle_seconds: float = 30.0
    """Longest pause between two parts of a request's body."""

    total_seconds: float = 900.0
    """Longest time that a request's body may take in all."""

    embed: bool = False
    """Whether the page is shown in frames of other sites, where cookies have to be partitioned."""


class UploadGate:
    """ASGI middleware behind `Guard`.

    Uploaded files belong to the visitor who sent them: Gradio hands any file of its folder to any
    request that names it. A visitor is known by a cookie of random letters, a program without
    cookies by its address.
    """

    def __init__(self, app: App, *, room: TemporaryRoom, config: UploadGateConfig) -> None:
        self._app = app
        self._room = room
        self._config = config
        self._owners: OrderedDict[str, set[str]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, or refuse, one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if len(headers.get(b"range", "")) > MAX_RANGE:
            await refuse(send, 416, "The request asks for too many ranges.")
            return
        visitor, is_new = _visitor(headers, scope)
        send = _with_cookie(send, visitor, embed=self._config.embed) if is_new else send
        owner = visitor if not is_new else _address(scope)
        timed = _Timed(receive, send, self._config, has_body=scope["method"] not in ("GET", "HEAD"))
        try:
            if scope["method"] == "POST" and scope["path"] == UPLOAD:
                await self._upload(scope, timed, owner, headers)
            elif scope["method"] == "POST" and scope["path"].startswith((JOIN, CALL)):
                await self._call(scope, timed, owner)
            else:
                await self._app(scope, timed.receive, timed.send)
        except Exception as error:
            refused = isinstance(error.__cause__, HTTPException) and timed.answered
            if not (timed.late or timed.gone or refused):
                raise
            LOGGER.info("a visitor who had left could not be answered: %s", error)
        if timed.late and not timed.answered:
            await refuse(send, 408, "The request came too slowly. Send it again.")

    async def _upload(
        self, scope: Scope, timed: _Timed, owner: str, headers: dict[bytes, str]
    ) -> None:
        length = headers.get(b"content-length", "")
        if not length.isdigit():
            await refuse(timed.send, 411, "The upload does not say how large it is.")
            return
        if not await asyncio.to_thread(self._room.make, int(length)):
            sentence = "The app's temporary room is full. Try again in a few minutes."
            await refuse(timed.send, 503, sentence)
            return
        parts: list[bytes] = []

        async def listening(message: Message) -> None:
            if message["type"] == "http.response.body":
                parts.append(message.get("body", b""))
            await timed.send(message)

        await self._app(scope, timed.receive, listening)
        for path in _paths_of(b"".join(parts)):
            self._remember(path, owner)

    async def _call(self, scope: Scope, timed: _Timed, owner: str) -> None:
        body = await read_body(timed.receive, _BODY)
        try:
            named = list(_named_files(json.loads(body or b"null")))
        except (ValueError, RecursionError):
            await refuse(timed.send, 400, "The request is not JSON.")
            return
        strange = next((path for path in named if owner not in self._owners.get(path, ())), None)
        if strange is not None:
            sentence = f"{Path(strange).name[:80]!r} is not a file that you uploaded. Upload it."
            await refuse(timed.send, 403, sentence)
            return
        await self._app(scope, replay(body or b"", timed.receive), timed.send)

    def _remember(self, path: str, owner: str) -> None:
        self._owners.setdefault(path, set()).add(owner)
        self._owners.move_to_end(path)
        while len(self._owners) > MAX_REMEMBERED:
            self._owners.popitem(last=False)


class _Timed:
    """A request whose body has to keep coming, and whether anything was answered.

    What has no body is not timed: whoever polls for a disconnect gives `receive` no time at all.
    """

    def __init__(
        self, receive: Receive, send: Send, config: UploadGateConfig, *, has_body: bool
    ) -> None:
        self._receive, self._send, self._idle = receive, send, config.idle_seconds
        self._end = time.monotonic() + config.total_seconds
        self._complete = not has_body
        self.late = self.answered = self.gone = False

    async def receive(self) -> Message:
        if self._complete:
            return self._seen(await self._receive())
        left = max(0.0, min(self._idle, self._end - time.monotonic()))
        try:
            message = await asyncio.wait_for(self._receive(), left)
        except TimeoutError:
            self.late = True
            return {"type": "http.disconnect"}
        self._complete = not message.get("more_body", False)
        return self._seen(message)

    def _seen(self, message: Message) -> Message:
        self.gone = self.gone or message["type"] == "http.disconnect"
        return message

    async def send(self, message: Message) -> None:
        if self.late and not self.answered:
            return  # what the app makes of a broken body; the gate's own answer follows
        self.answered = True
        await self._send(message)


def _visitor(headers: dict[bytes, str], scope: Scope) -> tuple[str, bool]:
    """(the visitor's name, whether it was made just now)."""
    try:
        found = SimpleCookie(headers.get(b"cookie", "")).get(COOKIE)
    except CookieError:
        found = None
    if found is not None and 16 <= len(found.value) <= 64:
        return found.value, False
    return secrets.token_hex(16), True


def _address(scope: Scope) -> str:
    return f"address {(scope.get('client') or ('',))[0]}"


def _with_cookie(send: Send, visitor: str, *, embed: bool) -> Send:
    same_site = "None; Secure; Partitioned" if embed else "Strict"
    cookie = f"{COOKIE}={visitor}; Path=/; HttpOnly; SameSite={same_site}".encode()

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            pairs = [*message.get("headers", []), (b"set-cookie", cookie)]
            message = {**message, "headers": pairs}
        await send(message)

    return sending


def _paths_of(answer: bytes) -> list[str]:
    """The paths in the answer to an upload."""
    try:
        found = json.loads(answer)
    except ValueError:
        return []
    return [path for path in found if isinstance(path, str)] if isinstance(found, list) else []


def _named_files(value: Any) -> Iterator[str]:
    """Every path that a value names in the form of Gradio's files."""
    if isinstance(value, dict):
        path = value.get("path")
        if isinstance(path, str) and path:
            yield path
        elif isinstance(value.get("url"), str) and "meta" in value:
            yield value["url"]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _named_files(item)


def gate(
    page_options: dict[str, Any], work: Path, close_oldest: Callable[[], bool], **config: Any
) -> dict[str, Any]:
    """The launch options with the gate behind their other middleware.

    Args:
        page_options: For `Blocks.launch`.
        work: The app's folder for everything temporary.
        close_oldest: Ends the session that has been idle longest; False when none is left.
        config: Fields of `UploadGateConfig`.
    """
    from starlette.middleware import Middleware

    room = TemporaryRoom(work, close_oldest=close_oldest)
    made = Middleware(UploadGate, room=room, config=UploadGateConfig(**config))
    page_options["app_kwargs"]["middleware"].append(made)
    return page_options
