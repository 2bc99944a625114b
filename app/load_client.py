"""Simulated visitors of the app, and what happened to their requests."""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

BUSY = (429, 503)
WAITS = ("x-expected-wait", "x-longest-wait")
PAIRS = "get the value from a key=value pair"
TASKS = (
    PAIRS,
    "keep only the digits",
    "write a date the German way",
    "take the last word of the line",
    "turn a name into initials",
    "change kilometers to meters",
    "sort the letters of a word",
    "say the weekday of a date",
)


def some_task() -> str:
    """A description that was hardly asked for before, so that no memory of it can help."""
    return f"{random.choice(TASKS)}, as in case {random.randrange(10**6)}"


@dataclass
class Tally:
    """What happened to the requests of one kind."""

    seconds: list[float] = field(default_factory=list)
    refused_seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    told: list[float] = field(default_factory=list)
    """Seconds until the answer, as those who were served had been told."""
    longest: list[float] = field(default_factory=list)
    """Seconds that somebody who is let in may have to wait, as the app said each time."""

    def p95(self) -> float:
        """95th percentile of the served ones, in seconds."""
        found = sorted(self.seconds)
        return found[min(len(found) - 1, int(0.95 * len(found)))] if found else float("nan")

    def add(self, other: Tally) -> None:
        """Count another one's requests too."""
        for name, mine in vars(self).items():
            mine += getattr(other, name)

    def to_dict(self) -> dict[str, float]:
        """JSON-able summary."""
        middle = statistics.median(self.seconds) if self.seconds else float("nan")
        return {
            "served": len(self.seconds),
            "median_s": round(middle, 3),
            "p95_s": round(self.p95(), 3),
            "busy": len(self.refused_seconds),
            "slowest_busy_s": round(max(self.refused_seconds, default=0.0), 3),
            "errors": len(self.errors),
        }


class User:
    """One simulated visitor with a session of its own."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._session = secrets.token_hex(8)
        self.told_to_wait = 0.0
        """Seconds, as the last refusal said."""

    async def call(
        self, name: str, data: Sequence[Any], tally: Tally, *, began: float | None = None
    ) -> bool:
        """Ask an endpoint, since `began` if it took an upload; whether it was served."""
        began = time.monotonic() if began is None else began
        body = {"data": list(data), "session_hash": self._session}
        try:
            joined = await self._client.post(f"/gradio_api/call/{name}", json=body)
            if joined.status_code in BUSY:
                tally.refused_seconds.append(time.monotonic() - began)
                self.told_to_wait = float(joined.headers.get("retry-after", 1))
                return False
            joined.raise_for_status()
            event = joined.json()["event_id"]
            told, longest = (float(joined.headers[wait]) for wait in WAITS)
            kind = await self._result(f"/gradio_api/call/{name}/{event}")
        except httpx.HTTPError as error:
            tally.errors.append(f"{name}: {error!r}")
            return False
        if kind != "complete":
            tally.errors.append(f"{name}: {kind}")
            return False
        tally.seconds.append(time.monotonic() - began)
        tally.told.append(told)
        tally.longest.append(longest)
        return True

    async def upload(self, name: str, content: bytes) -> dict[str, Any]:
        """The file as an endpoint takes it."""
        answer = await self._client.post("/gradio_api/upload", files={"files": (name, content)})
        answer.raise_for_status()
        path = answer.json()[0]
        return {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}

    async def generate(self, tally: Tally, *, steps: int = 4, candidates: int = 1) -> bool:
        """One generated adapter."""
        seed = random.randrange(2**31)
        data = [some_task(), "tiny_lm", candidates, 4, steps, 1.0, seed]
        return await self.call("generate_adapters", data, tally)

    async def search(self, tally: Tally) -> bool:
        """One search by description."""
        return await self.call("search_zoo", [some_task(), 10], tally)

    async def inspect(self, content: bytes, tally: Tally) -> bool:
        """One upload, inspected: what the upload takes counts, too."""
        began = time.monotonic()
        try:
            file = await self.upload("adapter.zip", content)
        except httpx.HTTPError as error:
            tally.errors.append(f"upload: {error!r}")
            return False
        return await self.call("inspect_adapter", [[file]], tally, began=began)

    async def abandon(self) -> None:
        """Ask for a long run, as a page does that shows it is there; leave at its first step."""
        body = {"data": [PAIRS, "tiny_lm", 8, 64, 64, 1.0, 0], "session_hash": self._session}
        async with self._client.stream("GET", f"/gradio_api/heartbeat/{self._session}"):
            joined = await self._client.post("/gradio_api/call/generate_adapters", json=body)
            event = joined.raise_for_status().json()["event_id"]
            await self._progress(f"/gradio_api/call/generate_adapters/{event}")

    async def first_step(self) -> float:
        """Seconds until the first step of a run of four is reported."""
        began = time.monotonic()
        body = {"data": [PAIRS, "tiny_lm", 1, 4, 4, 1.0, 0], "session_hash": self._session}
        async with self._client.stream("GET", f"/gradio_api/heartbeat/{self._session}"):
            joined = await self._client.post("/gradio_api/call/generate_adapters", json=body)
            event = joined.raise_for_status().json()["event_id"]
            await self._progress(f"/gradio_api/call/generate_adapters/{event}")
            return time.monotonic() - began

    async def _progress(self, path: str) -> None:
        """Read until a step is reported, then hang up."""
        async with self._client.stream("GET", path) as stream:
            async for line in stream.aiter_lines():
                if line == "event: generating":
                    return

    async def _result(self, path: str) -> str:
        kind = "no answer"
        async with self._client.stream("GET", path) as stream:
            async for line in stream.aiter_lines():
                if line.startswith("event: ") and line != "event: heartbeat":
                    kind = line.removeprefix("event: ")
                    if kind in ("complete", "error"):
                        return kind
        return kind


async def bare_search(url: str, tally: Tally) -> None:
    """One search on connections of its own, by a client that costs next to nothing.

    httpx takes about 15 ms of a core for a request on one of many connections, so that 200 clients
    of it could not arrive within a second.
    """
    began = time.monotonic()
    body = json.dumps({"data": [PAIRS, 10], "session_hash": secrets.token_hex(8)})
    status, answer = await _exchange(url, "POST", "/gradio_api/call/search_zoo", body)
    if status in BUSY:
        tally.refused_seconds.append(time.monotonic() - began)
        return
    if status != 200:
        tally.errors.append(f"search_zoo: {status}")
        return
    event = json.loads(answer)["event_id"]
    _, answer = await _exchange(url, "GET", f"/gradio_api/call/search_zoo/{event}")
    if "event: complete" in answer:
        tally.seconds.append(time.monotonic() - began)
    else:
        tally.errors.append(f"search_zoo: {answer[-200:]}")


async def _exchange(url: str, method: str, path: str, body: str = "") -> tuple[int, str]:
    """(status, body as it came) of one request on a connection of its own."""
    host, _, port = url.split("://")[1].rstrip("/").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write((head + body).encode())
        raw = (await reader.read()).decode()
    finally:
        writer.close()
    top, _, rest = raw.partition("\r\n\r\n")
    return int(top.split()[1]), rest
