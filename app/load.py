"""`python -m app.load`: how the app holds under load, as a table of goals and measures.

It starts an app of its own, so that the limits of one address do not bind the simulated users.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
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


async def leaving(client: httpx.AsyncClient, folder: Path, *, clients: int) -> tuple[float, int]:
    """L8: every second client leaves mid-run.

    Returns:
        (longest time until the next one's first step, sessions whose files stay behind).
    """
    before = len(_sessions(folder))
    waits = []
    for _ in range(clients // 2):
        await User(client).abandon()
        waits.append(await User(client).first_step())
    await asyncio.sleep(3)
    return max(waits), len(_sessions(folder)) - before


def _sessions(folder: Path) -> list[Path]:
    return list(folder.glob("lora_gen_app_*/sessions/*"))


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


async def measure(url: str, folder: Path, *, users: int, seconds: float) -> list[list[str]]:
    """A row for each goal: its name, what it asks, what was measured.

    Args:
        url: Where the app is served.
        folder: Where it keeps its temporary files.
        users: How many visit it at once.
        seconds: How long L1 and L4 last.
    """
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
        longest, orphans = await leaving(client, folder, clients=users)
        told = f"next one's first step after {longest:.2f} s; {orphans} sessions left behind"
        rows.append(["L8 half leave mid-run", "free within 2 s, no orphan files", told])
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
    last = answer.text.split("event: complete\ndata: ")[1].splitlines()[0]
    url = json.loads(last)[1]["url"]
    return (await client.get(url)).raise_for_status().content


def main(argv: list[str] | None = None) -> int:
    """Start an app, measure it, print the table."""
    parser = argparse.ArgumentParser(prog="python -m app.load", description=__doc__)
    parser.add_argument("--users", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument(
        "--pin", action="store_true", help="the app on the first core, the clients on the second"
    )
    arguments = parser.parse_args(argv)
    before = os.getloadavg()[0]
    with TemporaryDirectory() as folder, serving(Path(folder), pin=arguments.pin) as url:
        measured = measure(url, Path(folder), users=arguments.users, seconds=arguments.seconds)
        rows = asyncio.run(measured)
    print("| goal | asked | measured |\n| --- | --- | --- |")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    print(f"\n{os.cpu_count()} cores, load average {before:.1f} before the start.")
    return 0


@contextmanager
def serving(folder: Path, *, pin: bool) -> Iterator[str]:
    """Address of an app of its own that is warm, with its temporary files in `folder`."""
    command = [sys.executable, "-m", "app", "--port", "0", "--rate", "1000000"]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},
    )
    try:
        assert process.stdout is not None  # it is a pipe
        url = process.stdout.readline().split()[3]
        while not process.stdout.readline().startswith("ready: "):
            if process.poll() is not None:
                raise SystemExit("the app ended before it was warm")
        if pin:
            for thread in Path(f"/proc/{process.pid}/task").iterdir():
                os.sched_setaffinity(int(thread.name), {0})
            os.sched_setaffinity(0, {1})
        yield url
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    sys.exit(main())
