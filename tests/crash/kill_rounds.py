"""Kill -9 rounds: three writers and two readers on one zoo, and a ledger of what was promised.

    python -m tests.crash.kill_rounds --rounds 1000 --out build/kill_rounds.json

Each round starts the five processes, kills all of them at a random moment, starts again as a user
would, and compares the zoo with the ledger. The exit code is 1 when anything was lost.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the factories of the tests

from zoo_factories import fill_zoo, zoo_adapter, zoo_info

from lora_gen.errors import LockedError, LoraGenError
from lora_gen.zoo.store import Zoo
from tests.crash.report import finish, machine

WRITERS, READERS = 3, 2
FULL = 40
"""Entries above which writers remove more than they add."""


class Ledger:
    """An append-only file; a line that `say` returned from survives everything."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def say(self, *words: object) -> None:
        os.write(self._descriptor, (" ".join(map(str, words)) + "\n").encode())
        os.fsync(self._descriptor)


@dataclass
class Result:
    """Counts over all rounds; the first three must stay 0."""

    lost: int = 0
    """Acknowledged additions that were gone, or did not verify."""
    resurrected: int = 0
    """Acknowledged removals that were back."""
    half_visible: int = 0
    """Damaged or unfinished folders that a reader or a new writer could see."""
    rounds: int = 0
    kills: int = 0
    added: int = 0
    removed: int = 0
    reads: int = 0
    repairs: int = 0
    orphans: int = 0
    restart_seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def ok(self, limit: float) -> bool:
        bad = self.lost + self.resurrected + self.half_visible + len(self.failures)
        return not bad and max(self.restart_seconds, default=0.0) <= limit


def write(folder: Path, ledger: Ledger, seed: int) -> None:
    """Add and remove for ever; every step is announced before and acknowledged after."""
    rng = random.Random(seed)
    while True:
        try:
            with Zoo.open(folder) as zoo:
                for _ in range(rng.randint(1, 4)):
                    if len(zoo) > rng.randint(FULL // 2, FULL):
                        entry_id = rng.choice(zoo.ids())
                        ledger.say("removing", entry_id)
                        zoo.remove(entry_id)
                        ledger.say("removed", entry_id)
                    else:
                        number = rng.randrange(2**31)
                        added = zoo.add(zoo_adapter(number), zoo_info(f"task{number}"))
                        ledger.say("added", added.id)
        except LockedError:
            time.sleep(0.002 * rng.random())


def read(folder: Path, ledger: Ledger, seed: int) -> None:
    """List and load for ever; anything but a whole adapter or `is not in` is a half state."""
    rng, reads = random.Random(seed), 0
    while True:
        with Zoo.open(folder, read_only=True) as zoo:
            ids = zoo.ids()
            for entry_id in rng.sample(ids, min(5, len(ids))):
                try:
                    zoo.load(entry_id)
                    reads += 1
                except LoraGenError as error:
                    if "is not in" not in str(error):
                        ledger.say("half", str(error).replace("\n", " "))
            ledger.say("reads", reads)
            reads = 0


def start(work, folder: Path, ledger: Path, seed: int) -> int:
    """A forked process that works until it is killed."""
    child = os.fork()
    if child:
        return child
    try:
        work(folder, Ledger(ledger), seed)
    except BaseException as error:
        Ledger(ledger).say("failed", type(error).__name__, str(error).replace("\n", " "))
    os._exit(1)


def play(folder: Path, ledger: Path, seed: int) -> int:
    """One round: start everybody, wait a random while, kill everybody; returns the kills."""
    rng = random.Random(seed)
    workers = [(write, n) for n in range(WRITERS)] + [(read, n) for n in range(READERS)]
    children = [start(work, folder, ledger, seed * 10 + n) for work, n in workers]
    time.sleep(rng.uniform(0.05, 0.5))
    rng.shuffle(children)
    for child in children:
        os.kill(child, signal.SIGKILL)
        time.sleep(rng.choice([0, 0, 0.003]))
    ended = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    return ended.count(-signal.SIGKILL)


def promised(lines: list[str], before: set[str]) -> tuple[set[str], set[str]]:
    """Ids that must be there, and ids that must not, by what the ledger says in order."""
    present, gone = set(before), set()
    for line in lines:
        verb, _, entry_id = line.partition(" ")
        if verb == "added":
            present.add(entry_id)
            gone.discard(entry_id)
        elif verb == "removing":
            present.discard(entry_id)
        elif verb == "removed":
            gone.add(entry_id)
    return present, gone


def judge(folder: Path, lines: list[str], before: set[str], result: Result) -> set[str]:
    """Restart, compare with the ledger, and count; returns the ids that are there now."""
    present, gone = promised(lines, before)
    began = time.perf_counter()
    with Zoo.open(folder) as zoo:
        result.restart_seconds.append(round(time.perf_counter() - began, 4))
        report, ids = zoo.verify(), set(zoo.ids())
        result.repairs += len(zoo.repairs)
        for name in report.orphaned:  # published, but never acknowledged
            result.orphans += zoo.folders.discard_orphan(name)
    bad = {entry_id for entry_id, _ in report.damaged} | set(report.missing)
    said = Counter(line.partition(" ")[0] for line in lines)
    result.lost += len(present - ids) + len(present & bad)
    result.resurrected += len(gone & ids)
    result.half_visible += len(bad - present) + len(report.unfinished) + said["half"]
    result.failures += [*report.catalog, *(line for line in lines if line.startswith("failed"))]
    result.added += said["added"]
    result.removed += said["removed"]
    result.reads += sum(int(line.split()[1]) for line in lines if line.startswith("reads"))
    return ids


def run(rounds: int, folder: Path, *, seed: int = 0, progress: bool = False) -> Result:
    """All rounds on one zoo under `folder`."""
    result = Result()
    ids = set(fill_zoo(folder / "zoo", 3))
    for number in range(rounds):
        ledger = folder / f"ledger{number}"
        result.kills += play(folder / "zoo", ledger, seed + number)
        lines = [line for line in ledger.read_text().splitlines(keepends=True) if line[-1] == "\n"]
        ids = judge(folder / "zoo", [line.strip() for line in lines], ids, result)
        result.rounds += 1
        ledger.unlink()
        if progress and result.rounds % 50 == 0:
            print(f"{result.rounds} rounds, {result.lost} lost, {result.added} added", flush=True)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=None, help="Where to write the JSON report.")
    parser.add_argument("--folder", type=Path, default=None, help="On the disk to measure.")
    parser.add_argument("--restart-limit", type=float, default=2.0)
    chosen = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
        where = machine(Path(name))
        result = run(chosen.rounds, Path(name), seed=chosen.seed, progress=True)
    times = sorted(result.restart_seconds)
    report = {k: v for k, v in asdict(result).items() if k != "restart_seconds"}
    report |= {
        "ok": result.ok(chosen.restart_limit),
        "restart_seconds_median": times[len(times) // 2] if times else None,
        "restart_seconds_p99": times[len(times) * 99 // 100] if times else None,
        "restart_seconds_max": times[-1] if times else None,
        "seconds": round(time.perf_counter() - began, 1),
        "seed": chosen.seed,
        "writers": WRITERS,
        "readers": READERS,
        "machine": where,
    }
    return finish(report, chosen.out)


if __name__ == "__main__":
    sys.exit(main())
