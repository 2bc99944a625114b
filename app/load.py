"""`python -m app.load`: how the app holds under load, as a table of goals and measures.

It starts an app of its own, so that the limits of one address do not bind the simulated users.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parent.parent
BUSY = (429, 503)
PAIRS = "get the value from a key=value pair"
BAD_UPLOAD = b"PK\x03\x04 not an archive"


@dataclass
class Tally:
    """What happened to the requests of one kind."""

    seconds: list[float] = field(default_factory=list)
    refused_seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def p95(self) -> float:
        """95th percentile of the served ones, in seconds."""
        found = sorted(self.seconds)
        return found[min(len(found) - 1, int(0.95 * len(found)))] if found else float("nan")


class User:
    """One simulated visitor with a session of its own."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._session = secrets.token_hex(8)

    async def call(self, name: str, data: Sequence[Any], tally: Tally) -> bool:
        """Ask an endpoint; whether it was served."""
        began = time.monotonic()
        body = {"data": list(data), "session_hash": self._session}
        try:
            joined = await self._client.post(f"/gradio_api/call/{name}", json=body)
            if joined.status_code in BUSY:
                tally.refused_seconds.append(time.monotonic() - began)
                return False
            joined.raise_for_status()
            event = joined.json()["event_id"]
            kind = await self._result(f"/gradio_api/call/{name}/{event}")
        except httpx.HTTPError as error:
            tally.errors.append(f"{name}: {error!r}")
            return False
        if kind != "complete":
            tally.errors.append(f"{name}: {kind}")
            return False
        tally.seconds.append(time.monotonic() - began)
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
        data = [PAIRS, "tiny_lm", candidates, 4, steps, 1.0, seed]
        return await self.call("generate_adapters", data, tally)

    async def search(self, tally: Tally) -> bool:
        """One search by description."""
        return await self.call("search_zoo", [PAIRS, 10], tally)

    async def inspect(self, content: bytes, tally: Tally) -> bool:
        """One upload, inspected."""
        file = await self.upload("adapter.zip", content)
        return await self.call("inspect_adapter", [[file]], tally)

    async def _result(self, path: str) -> str:
        kind = "no answer"
        async with self._client.stream("GET", path) as stream:
            async for line in stream.aiter_lines():
                if line.startswith("event: ") and line != "event: heartbeat":
                    kind = line.removeprefix("event: ")
                    if kind in ("complete", "error"):
                        return kind
        return kind


async def steady(
    client: httpx.AsyncClient, content: bytes, *, users: int, seconds: float
) -> dict[str, Tally]:
    """L1: a closed loop, half generate, a third search, a fifth inspect."""
    tallies = {name: Tally() for name in ("generate", "search", "inspect")}
    end = time.monotonic() + seconds

    async def live(user: User) -> None:
        while time.monotonic() < end:
            draw = random.random()
            if draw < 0.5:
                served = await user.generate(tallies["generate"])
            elif draw < 0.8:
                served = await user.search(tallies["search"])
            else:
                served = await user.inspect(content, tallies["inspect"])
            await asyncio.sleep(0.2 if served else 1.0)

    await asyncio.gather(*(live(User(client)) for _ in range(users)))
    return tallies


async def burst(client: httpx.AsyncClient, *, clients: int) -> Tally:
    """L2: everybody at once; each is accepted, or told to come back."""
    tally = Tally()
    await asyncio.gather(*(User(client).search(tally) for _ in range(clients)))
    return tally


async def knee(client: httpx.AsyncClient, *, goal: float, seconds: float) -> float:
    """L3: the highest rate of searches (1/s) in steps of 1.5 whose p95 is within the goal."""
    rate, best = 1.0, 0.0
    while rate < 200:
        tally = Tally()
        jobs = []
        for _ in range(max(1, int(rate * seconds))):
            jobs.append(asyncio.create_task(User(client).search(tally)))
            await asyncio.sleep(1 / rate)
        await asyncio.gather(*jobs)
        if tally.errors or tally.refused_seconds or tally.p95() > goal:
            return best
        best, rate = rate, rate * 1.5
    return best


async def isolation(
    client: httpx.AsyncClient, content: bytes, *, users: int, seconds: float
) -> tuple[dict[str, Tally], Tally]:
    """L4: 100 broken uploads while L1 runs."""
    bad = Tally()

    async def attack() -> None:
        for _ in range(100):
            user = User(client)
            file = await user.upload("adapter.zip", BAD_UPLOAD)
            await user.call("inspect_adapter", [[file]], bad)
            await asyncio.sleep(seconds / 100)

    good, _ = await asyncio.gather(steady(client, content, users=users, seconds=seconds), attack())
    return good, bad


async def fairness(client: httpx.AsyncClient, *, requests: int) -> tuple[float, float]:
    """L9: (p95 of a visitor alone, p95 beside another one who asks for 100 at once)."""
    alone, beside, greedy = Tally(), Tally(), Tally()
    visitor = User(client)
    for _ in range(requests):
        await visitor.search(alone)
    other = User(client)
    flood = [asyncio.create_task(other.search(greedy)) for _ in range(100)]
    for _ in range(requests):
        await visitor.search(beside)
    await asyncio.gather(*flood)
    return alone.p95(), beside.p95()


async def measure(url: str, *, users: int, seconds: float) -> list[list[str]]:
    """A row for each goal: its name, what it asks, what was measured."""
    limits = httpx.Limits(max_connections=1_000)
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=limits) as client:
        content = await _adapter_zip(client)
        warm = Tally()
        await User(client).search(warm)
        rows = []
        good = await steady(client, content, users=users, seconds=seconds)
        rows.append([f"L1 steady, {users} users", "no errors; search p95 0.3 s", _all(good)])
        tally = await burst(client, clients=200)
        refused = max(tally.refused_seconds, default=0.0)
        rows.append(
            [
                "L2 burst of 200",
                "accepted, or busy within 1 s",
                f"{len(tally.seconds)} served, {len(tally.refused_seconds)} told to come back "
                f"(slowest {refused:.2f} s), {len(tally.errors)} errors",
            ]
        )
        rate = await knee(client, goal=0.3, seconds=5)
        rows.append(["L3 knee of search", "report", f"{rate:.1f} a second within 0.3 s"])
        good, bad = await isolation(client, content, users=users, seconds=seconds)
        told = f"{_all(good)}; {len(bad.errors)} of 100 bad ones refused"
        rows.append(["L4 beside 100 bad uploads", "no good one fails", told])
        alone, beside = await fairness(client, requests=20)
        rows.append(["L9 fairness", "p95 at most doubles", f"{alone:.2f} s → {beside:.2f} s"])
    return rows


def _all(tallies: dict[str, Tally]) -> str:
    parts = []
    for name, tally in tallies.items():
        middle = statistics.median(tally.seconds) if tally.seconds else float("nan")
        parts.append(
            f"{name} {len(tally.seconds)} of {middle:.2f} s, p95 {tally.p95():.2f} s, "
            f"{len(tally.refused_seconds)} busy, {len(tally.errors)} errors"
        )
    return "; ".join(parts)


async def _adapter_zip(client: httpx.AsyncClient) -> bytes:
    """A generated adapter as a visitor downloads it."""
    user = User(client)
    body = {"data": [PAIRS, "tiny_lm", 1, 4, 4, 1.0, 0], "session_hash": user._session}
    joined = await client.post("/gradio_api/call/generate_adapters", json=body)
    event = joined.raise_for_status().json()["event_id"]
    answer = await client.get(f"/gradio_api/call/generate_adapters/{event}")
    line = next(line for line in answer.text.splitlines() if line.startswith("data: ["))
    url = json.loads(line.removeprefix("data: "))[1]["url"]
    return (await client.get(url)).raise_for_status().content


def main(argv: list[str] | None = None) -> int:
    """Start an app, measure it, print the table."""
    parser = argparse.ArgumentParser(prog="python -m app.load", description=__doc__)
    parser.add_argument("--users", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60)
    arguments = parser.parse_args(argv)
    command = [sys.executable, "-m", "app", "--port", "0", "--rate", "1000000"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None  # it is a pipe
        url = process.stdout.readline().split()[3]
        rows = asyncio.run(measure(url, users=arguments.users, seconds=arguments.seconds))
    finally:
        process.terminate()
        process.wait()
    print("| goal | asked | measured |\n| --- | --- | --- |")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
