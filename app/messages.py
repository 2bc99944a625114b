"""Parts of a request and its answer, as ASGI passes them on."""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def with_headers(headers: list[tuple[bytes, bytes]], send: Send) -> Send:
    """The same `send`, with headers of ours in the place of any of the same names."""
    ours = {name for name, _ in headers}

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            theirs = [pair for pair in message.get("headers", []) if pair[0].lower() not in ours]
            message = {**message, "headers": [*theirs, *headers]}
        await send(message)

    return sending


def calling_before(call: Callable[[], None], send: Send) -> Send:
    """The same `send`, with a call before each message."""

    async def sending(message: Message) -> None:
        call()
        await send(message)

    return sending


async def read_body(receive: Receive, limit: int) -> bytes | None:
    """The whole body; None when it is larger than `limit`."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b"".join(parts)
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            return None
        if not message.get("more_body"):
            return b"".join(parts)


def replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives a body that was read already, then goes on as before."""
    sent = False

    async def receiving() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receiving


def counted(receive: Receive, limit: int) -> Receive:
    """The same body; one that grows beyond `limit` counts as broken off."""
    size = 0

    async def receiving() -> Message:
        nonlocal size
        message = await receive()
        if message["type"] == "http.request":
            size += len(message.get("body", b""))
            if size > limit:
                return {"type": "http.disconnect"}
        return message

    return receiving


async def refuse(send: Send, status: int, sentence: str, wait: float | None = None) -> None:
    """Answer with a sentence; those who are merely early are told for how long to wait."""
    body = json.dumps({"detail": sentence, "error": sentence}).encode()
    headers: Iterable[tuple[bytes, bytes]] = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    if status in (429, 503):
        headers = [*headers, (b"retry-after", str(math.ceil(wait or 5)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body})
