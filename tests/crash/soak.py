"""A soak: the app serves visitors for hours, and its process table must stay flat.

    python -m tests.crash.soak --seconds 7200 --folder build/soak --out build/soak/report.json

Visitors generate, download, search, upload, inspect, try, keep and leave; an operator forgets what
they kept. The report is written every minute and can be read while it runs. After a broken run,
`--judge build/soak/samples.jsonl` judges what was sampled. The exit code is 1 when something grew
or a request failed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from lora_gen.errors import LockedError
from lora_gen.files import atomic_write_json
from lora_gen.zoo.store import Zoo
from tests.crash.report import finish, machine, stamp
from tests.crash.visits import RefusedError, Visitor, visit

ROOT = Path(__file__).resolve().parents[2]
WARM_UP = 900.0
"""Seconds after which nothing may grow any more (hostile inputs, load goal L5)."""

KEPT = 4_500.0
"""Seconds after which temporary files must be flat: the app keeps a visitor's files an hour, and
looks every ten minutes."""

GROWTH = 0.05
HANDLES, THREADS = 4, 2
"""How many more than before are connections and workers that come and go."""

Sample = dict[str, float]


class Counts:
    """What visitors were answered, counted by all threads."""

    def __init__(self) -> None:
        self.answered: Counter[str] = Counter()
        self.busy = 0
        self.failures: list[str] = []


def live(url: str, zoo: Path, counts: Counts, every: float, seed: int) -> None:
    """Visits for ever, one every so many seconds; after each the operator forgets what was kept.

    The rate is fixed, since a faster machine must not look like growth: files and sessions are kept
    for an hour, so there are as many of them as visits.
    """
    rng, due = random.Random(seed), time.monotonic()
    while True:
        time.sleep(max(0.0, due - time.monotonic()))
        due = max(due, time.monotonic() - every) + every
        try:
            with Visitor(url) as visitor:
                for step in visit(visitor, rng):
                    counts.answered[step] += 1
                    time.sleep(rng.expovariate(10 / every))
            forget_all(zoo, counts)
        except (LockedError, RefusedError, httpx.HTTPError) as error:
            if "is being written" in str(error) or "429" in str(error) or "503" in str(error):
                counts.busy += 1
            else:
                counts.failures.append(f"{type(error).__name__}: {str(error)[:300]}")


def forget_all(zoo: Path, counts: Counts) -> None:
    """What an operator does with everything that visitors kept."""
    with Zoo.open(zoo) as opened:
        for entry_id in opened.guard.quarantined():
            opened.guard.forget(entry_id)
            counts.answered["forget from a zoo"] += 1


def sample(process: psutil.Process, temporary: Path, began: float) -> Sample:
    """The process table and the temporary files, now."""
    family = [process, *process.children(recursive=True)]
    sizes = list(_sizes(temporary))
    times = [one.cpu_times() for one in family]
    return {
        "second": round(time.monotonic() - began, 1),
        "rss_bytes": sum(one.memory_info().rss for one in family),
        "handles": sum(one.num_fds() for one in family),
        "threads": sum(one.num_threads() for one in family),
        "temporary_files": len(sizes),
        "temporary_bytes": sum(sizes),
        "cpu_seconds": round(sum(spent.user + spent.system for spent in times), 2),
    }


def _sizes(folder: Path) -> Iterator[int]:
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                yield os.stat(os.path.join(place, name)).st_size
            except FileNotFoundError:  # deleted while we look
                continue


def judge(samples: Sequence[Sample]) -> dict[str, Any]:
    """Early and late medians of every figure, and whether each stayed flat; None: too short."""
    end = samples[-1]["second"]
    window = min(900.0, end / 8)
    verdicts: dict[str, Any] = {}
    for name, after, relative, more in (
        ("rss_bytes", WARM_UP, GROWTH, 0),
        ("handles", WARM_UP, 0, HANDLES),
        ("threads", WARM_UP, 0, THREADS),
        ("temporary_files", KEPT, GROWTH, HANDLES),
        ("temporary_bytes", KEPT, GROWTH, 0),
    ):
        early = [s[name] for s in samples if after <= s["second"] < after + window]
        late = [s[name] for s in samples if s["second"] > end - window]
        if not early or end < after + 2 * window:
            verdicts[name] = {"flat": None}
            continue
        before, now = statistics.median(early), statistics.median(late)
        verdicts[name] = {
            "after_second": after,
            "early": before,
            "late": now,
            "growth": round(now / before - 1, 4) if before else None,
            "most": max(s[name] for s in samples),
            "flat": now <= before * (1 + relative) + more,
        }
    return verdicts


def report(
    samples: Sequence[Sample], counts: Counts, *, asked: float, visit_every: float
) -> dict[str, Any]:
    """Everything that was measured, as JSON."""
    verdicts = judge(samples)
    seconds = samples[-1]["second"]
    finished = seconds >= asked
    flat = all(verdict["flat"] for verdict in verdicts.values())
    return {
        "ok": finished and flat and not counts.failures if finished else None,
        "finished": finished,
        "seconds": seconds,
        "asked_seconds": asked,
        "visit_every_seconds": visit_every,
        "samples": len(samples),
        "cpu_share": round(samples[-1]["cpu_seconds"] / max(seconds, 1), 3),
        "answered": dict(counts.answered),
        "busy": counts.busy,
        "failures": len(counts.failures),
        "first_failures": counts.failures[:10],
        "figures": verdicts,
    }


@contextmanager
def served(folder: Path) -> Iterator[tuple[psutil.Process, str]]:
    """The app as users start it, with its temporary files under `folder`; its address."""
    temporary, log = folder / "tmp", folder / "app.log"
    temporary.mkdir(parents=True)
    command = [sys.executable, "-m", "app", "--port", "0", "--quarantine", str(folder / "zoo")]
    environment = {**os.environ, "TMPDIR": str(temporary.resolve()), "PYTHONWARNINGS": "ignore"}
    with log.open("w") as errors:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
        )
        try:
            assert process.stdout is not None  # it is a pipe
            yield psutil.Process(process.pid), process.stdout.readline().split()[3]
        finally:
            process.terminate()
            process.wait()


def soak(chosen: argparse.Namespace) -> dict[str, Any]:
    """Serve, visit and sample until the time is over; the report."""
    counts, samples = Counts(), list[Sample]()
    folder = chosen.folder.resolve()
    with served(folder) as (process, url):
        Zoo.open(folder / "zoo", create=True).close()
        began = time.monotonic()
        for number in range(chosen.visitors):
            every = chosen.visit_every * chosen.visitors
            work = (url, folder / "zoo", counts, every, chosen.seed + number)
            threading.Thread(target=live, args=work, daemon=True).start()
        made, about = {}, {**stamp(), "machine": machine(folder)}
        with (folder / "samples.jsonl").open("w", buffering=1) as stream:
            while not samples or samples[-1]["second"] < chosen.seconds:
                time.sleep(chosen.every)
                samples.append(sample(process, folder / "tmp", began))
                stream.write(json.dumps(samples[-1]) + "\n")
                asked = {"asked": chosen.seconds, "visit_every": chosen.visit_every}
                made = report(samples, counts, **asked)
                atomic_write_json(chosen.out, {**about, **made})
    return {**about, **made}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=7_200)
    parser.add_argument("--folder", type=Path, help="a new folder for its temporary files and log")
    parser.add_argument("--out", type=Path, help="where to write the JSON report")
    parser.add_argument("--visitors", type=int, default=2)
    parser.add_argument("--visit-every", type=float, default=30.0, help="seconds, by all visitors")
    parser.add_argument("--every", type=float, default=15.0, help="seconds between samples")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--judge", type=Path, help="judge the samples of a run, and run nothing")
    chosen = parser.parse_args()
    if chosen.judge:
        samples = [json.loads(line) for line in chosen.judge.read_text().splitlines()]
        made = {"figures": judge(samples), "seconds": samples[-1]["second"]}
        made["ok"] = all(verdict["flat"] for verdict in made["figures"].values())
    elif chosen.folder and chosen.out:
        made = soak(chosen)
    else:
        parser.error("pass `--folder` and `--out`, or `--judge`")
    return finish(made, chosen.out)


if __name__ == "__main__":
    sys.exit(main())
