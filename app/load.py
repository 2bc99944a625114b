"""`python -m app.load`: how the app holds under load, as a table of goals and measures.

It starts an app of its own, so that the limits of one address do not bind the simulated users.
`--out` keeps the table as JSON; `python -m app.figures` draws it into the app's README.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import random
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from app.load_client import Tally, User, bare_search
from app.load_setup import Served, bad_uploads, large_adapter, serving

SEARCH_P95, INSPECT_P95, REFUSED, FREED = 0.3, 1.5, 1.0, 2.0
"""Seconds."""

BACK_WITHIN, ISOLATION_SECONDS, ROUNDS, BAD = 30.0, 100.0, 2, 100
MIX = (("generate", 0.5), ("search", 0.3), ("inspect", 0.2))


@dataclass(frozen=True, kw_only=True)
class Goal:
    """One row of the table."""

    name: str
    asked: str
    measured: str
    met: bool


class Load:
    """The measurements, one after the other.

    Args:
        served: The app.
        client: Of all users but the greedy one.
        content: The adapter that is uploaded, a zip file.
        users: How many visit at once.
        seconds: How long the steady load lasts.
    """

    def __init__(
        self,
        served: Served,
        client: httpx.AsyncClient,
        content: bytes,
        *,
        users: int,
        seconds: float,
    ) -> None:
        self._served, self._client, self._content = served, client, content
        self._users, self._seconds = users, seconds

    async def steady(self, seconds: float) -> dict[str, Tally]:
        """A closed loop: half generate, a third search, a fifth inspect."""
        tallies = {name: Tally() for name, _ in MIX}
        end = time.monotonic() + seconds

        async def live(user: User) -> None:
            while time.monotonic() < end:
                (name,) = random.choices([n for n, _ in MIX], [share for _, share in MIX])
                if name == "generate":
                    served = await user.generate(tallies[name])
                elif name == "search":
                    served = await user.search(tallies[name])
                else:
                    served = await user.inspect(self._content, tallies[name])
                await asyncio.sleep(0.2 if served else 1.0)

        await asyncio.gather(*(live(User(self._client)) for _ in range(self._users)))
        return tallies

    async def steady_goal(self) -> Goal:
        """L1."""
        tallies = await self.steady(self._seconds)
        generated = tallies["generate"]
        bound = 2 * statistics.median(generated.longest)
        kept = [s <= 2 * told for s, told in zip(generated.seconds, generated.told, strict=True)]
        limits = {"generate": bound, "search": SEARCH_P95, "inspect": INSPECT_P95}
        met = all(t.p95() <= limits[name] and not t.errors for name, t in tallies.items())
        asked = (
            f"no error; p95 of search {SEARCH_P95} s, of inspect (5 MB) {INSPECT_P95} s, "
            f"of generate {bound:.1f} s (twice the longest wait that anybody is let in to, as the "
            "app told them)"
        )
        measured = (
            f"{_all(tallies)}; {statistics.mean(kept):.0%} of generations within twice what each "
            f"had been told; a generation alone takes {self._served.generation:.2f} s"
        )
        name = f"L1 steady: {self._users} users, {self._seconds:.0f} s"
        return Goal(name=name, asked=asked, measured=measured, met=met)

    async def burst_goal(self, *, clients: int) -> Goal:
        """L2: fixed arrivals within a second; each is accepted, or told to come back."""
        tally, after = Tally(), Tally()

        async def arrive(number: int) -> None:
            await asyncio.sleep(number / clients)
            await bare_search(self._served.url, tally)

        await asyncio.gather(*(arrive(number) for number in range(clients)))
        ended = time.monotonic()
        for _ in range(20):
            await User(self._client).search(after)
        back = time.monotonic() - ended
        slowest = max(tally.refused_seconds, default=0.0)
        met = slowest <= REFUSED and not tally.errors
        return Goal(
            name=f"L2 burst: {clients} searches in 1 s",
            asked=f"served, or busy within {REFUSED:.0f} s; L1's p95 within {BACK_WITHIN:.0f} s",
            measured=f"{len(tally.seconds)} served, {len(tally.refused_seconds)} told to come back "
            f"(slowest {slowest:.2f} s), {len(tally.errors)} errors; p95 {after.p95():.2f} s "
            f"within {back:.0f} s",
            met=met and after.p95() <= SEARCH_P95 and back <= BACK_WITHIN,
        )

    async def knee_goal(self, *, seconds: float) -> Goal:
        """L3: the highest rate of searches, in steps of 1.25, whose p95 is within the goal."""
        rate, best = 2.0, 0.0
        while rate < 200:
            tally, jobs = Tally(), []
            for _ in range(max(1, int(rate * seconds))):
                jobs.append(asyncio.create_task(User(self._client).search(tally)))
                await asyncio.sleep(1 / rate)
            await asyncio.gather(*jobs)
            if tally.errors or tally.refused_seconds or tally.p95() > SEARCH_P95:
                break
            best, rate = rate, rate * 1.25
        return Goal(
            name="L3 knee of search",
            asked="report",
            measured=f"{best:.1f} a second within {SEARCH_P95} s",
            met=best > 0,
        )

    async def isolation_goal(self) -> Goal:
        """L4: broken uploads while L1 runs, against windows without, which take turns with them."""
        alone, beside = ({name: Tally() for name, _ in MIX} for _ in range(2))
        seconds, bad, uploads = min(self._seconds, ISOLATION_SECONDS), Tally(), bad_uploads()

        async def attack(number: int) -> None:
            await asyncio.sleep((number + 0.5) * seconds / BAD)
            user = User(self._client)
            file = await user.upload("adapter.zip", uploads[number % len(uploads)])
            await user.call("inspect_adapter", [[file]], bad)

        for _ in range(ROUNDS):
            _pool(alone, await self.steady(seconds))
            attacks = asyncio.gather(*(attack(number) for number in range(BAD)))
            _pool(beside, await self.steady(seconds))
            await attacks
        grown = {name: beside[name].p95() / alone[name].p95() - 1 for name in beside}
        told = ", ".join(f"{name} {share:+.0%}" for name, share in grown.items())
        met = max(grown.values()) <= 0.25 and not bad.seconds
        return Goal(
            name=f"L4 beside {BAD} bad uploads in {seconds:.0f} s",
            asked="no good one fails; p95 at most +25% of that of windows without, in turns",
            measured=f"alone {_all(alone)}; beside them {_all(beside)}; p95 {told}; "
            f"of {ROUNDS * BAD} bad ones {len(bad.errors)} refused, "
            f"{len(bad.refused_seconds)} told to come back, {len(bad.seconds)} taken",
            met=met and not any(tally.errors for tally in beside.values()),
        )

    async def leaving_goal(self) -> Goal:
        """L8: every second client leaves mid-run."""
        before, waits = len(_sessions(self._served.folder)), []
        for _ in range(self._users // 2):
            await User(self._client).abandon()
            waits.append(await User(self._client).first_step())
        await asyncio.sleep(3)
        left = len(_sessions(self._served.folder)) - before
        return Goal(
            name="L8 half leave mid-run",
            asked=f"free within {FREED:.0f} s, no orphan files",
            measured=f"next one's first step after {max(waits):.2f} s; {left} sessions left behind",
            met=max(waits) <= FREED and left <= 0,
        )

    async def fairness_goal(self, *, requests: int) -> Goal:
        """L9: a client in a process of its own asks for 100 at once, each until it is served.

        What one does who asks anew for each that is served, for ever, is told too.
        """
        alone = await self._searches(requests)
        beside = await self._searches(requests, greedy=False)
        insisting = await self._searches(requests, greedy=True)
        return Goal(
            name="L9 fairness",
            asked="another's p95 at most doubles",
            measured=f"{alone.p95():.3f} s alone, {beside.p95():.3f} s beside 100 requests of one "
            f"client, {len(beside.errors) + len(beside.refused_seconds)} refused; "
            f"{insisting.p95():.3f} s beside one who asks 100 at once for ever",
            met=beside.p95() <= 2 * alone.p95() and not beside.errors,
        )

    async def _searches(self, requests: int, *, greedy: bool | None = None) -> Tally:
        """One visitor's searches, one after the other, alone or beside a flood."""
        tally, visitor = Tally(), User(self._client)
        spawn = multiprocessing.get_context("spawn")
        began = spawn.Event()
        other = spawn.Process(target=flood, args=(self._served.url, began, greedy), daemon=True)
        if greedy is not None:
            other.start()
            await asyncio.to_thread(began.wait)
        for _ in range(requests):
            await visitor.search(tally)
        if greedy is not None:
            other.terminate()
            other.join()
        return tally


def flood(url: str, began: Event, again: bool) -> None:
    """One session asks for 100 searches at once; the refused ask again when they are told to.

    Args:
        url: Of the app.
        began: Set as soon as it asks.
        again: Whether those that are served ask for another, for ever.
    """

    async def run() -> None:
        limits = httpx.Limits(max_connections=100)
        async with httpx.AsyncClient(base_url=url, timeout=600, limits=limits) as client:
            client_session, tally = User(client), Tally()

            async def insist() -> None:
                served = False
                while again or not served:
                    served = await client_session.search(tally)
                    if not served:
                        await asyncio.sleep(client_session.told_to_wait)

            began.set()
            await asyncio.gather(*(insist() for _ in range(100)))

    asyncio.run(run())


async def measure(served: Served, *, users: int, seconds: float) -> list[Goal]:
    """A row for each goal."""
    limits = httpx.Limits(max_connections=1_000)
    async with httpx.AsyncClient(base_url=served.url, timeout=600, limits=limits) as client:
        load = Load(served, client, large_adapter(), users=users, seconds=seconds)
        await User(client).search(Tally())
        return [
            await load.steady_goal(),
            await load.burst_goal(clients=200),
            await load.knee_goal(seconds=5),
            await load.isolation_goal(),
            await load.leaving_goal(),
            await load.fairness_goal(requests=100),
        ]


def _pool(into: dict[str, Tally], found: dict[str, Tally]) -> None:
    for name, tally in found.items():
        into[name].add(tally)


def _sessions(folder: Path) -> list[Path]:
    return list(folder.glob("lora_gen_app_*/sessions/*"))


def _all(tallies: dict[str, Tally]) -> str:
    parts = []
    for name, tally in tallies.items():
        found = tally.to_dict()
        parts.append(
            f"{name} {found['served']} of {found['median_s']:.2f} s, p95 {found['p95_s']:.2f} s, "
            f"{found['busy']} busy, {found['errors']} errors"
        )
    return "; ".join(parts)


def report(goals: Sequence[Goal], *, load_before: float) -> dict[str, Any]:
    """JSON-able content of a run."""
    return {
        "command": " ".join(["python -m app.load", *sys.argv[1:]]),
        "cores": os.cpu_count(),
        "load_before": round(load_before, 1),
        "goals": [asdict(goal) for goal in goals],
    }


def main(argv: list[str] | None = None) -> int:
    """Start an app, measure it, print the table."""
    parser = argparse.ArgumentParser(prog="python -m app.load", description=__doc__)
    parser.add_argument("--users", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--out", type=Path, help="keep the table as JSON")
    arguments = parser.parse_args(argv)
    before = os.getloadavg()[0]
    with TemporaryDirectory() as folder, serving(Path(folder)) as served:
        measured = measure(served, users=arguments.users, seconds=arguments.seconds)
        goals = asyncio.run(measured)
    from app.figures import goal_rows, keep

    print("\n".join(goal_rows(goals)))
    print(f"\n{os.cpu_count()} cores, load average {before:.1f} before the start.")
    if arguments.out:
        keep(arguments.out, report(goals, load_before=before))
    return 0 if all(goal.met for goal in goals) else 1


if __name__ == "__main__":
    sys.exit(main())
