"""Processes that are killed while they add, remove and index; the next one has to go on.

python -m tests.retrieval.index_kills --rounds 8 --out docs/encoder/kills.json
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the factories of the tests

from retrieval_factories import open_bag, searchable_zoo

from lora_gen.files import atomic_write_json

WORK = """
import sys
from pathlib import Path
from retrieval_factories import open_bag
from zoo_factories import zoo_adapter, zoo_info
from lora_gen.zoo.store import Zoo

folder, number = Path(sys.argv[1]), int(sys.argv[2])
while True:
    number += 1
    with Zoo.open(folder / "zoo") as zoo:
        found = zoo.add(zoo_adapter(number), zoo_info(f"task{number}", descriptions=("x y",)))
        print("added", found.id, flush=True)
        if number % 3 == 0:
            zoo.remove(found.id)
            print("removed", found.id, flush=True)
    with open_bag(folder):
        pass
"""


def killed_after(folder: Path, seconds: float, number: int) -> list[list[str]]:
    """What a worker acknowledged before it was killed."""
    path = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]
    code = f"import sys; sys.path[:0] = {path!r}\n{WORK}"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(folder), str(number)], stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdout is not None
        first = worker.stdout.readline()
        time.sleep(seconds)
        worker.kill()
        rest = worker.stdout.read()
    return [line.split() for line in (first + rest).splitlines() if len(line.split()) == 2]


def kill_round(folder: Path, seed: int) -> dict[str, int]:
    """One kill on a fresh zoo, and what the next two openings of the index find."""
    ids = searchable_zoo(folder / "zoo")
    with open_bag(folder):
        pass
    told = killed_after(folder, random.Random(seed).uniform(0, 0.6), 100 * (seed + 1))
    removed = {entry_id for word, entry_id in told if word == "removed"}
    kept = set(ids) | ({entry_id for word, entry_id in told if word == "added"} - removed)
    last = {told[-1][1]} if told else set()  # the killed process may have been removing it
    with open_bag(folder) as index:
        found, live, lines = set(index.vectors("text")[0]), set(index.zoo.ids()), index.repairs
    with open_bag(folder) as index:
        again = index.repairs
    return {
        "kills": 1,
        "acknowledged": len(told),
        "lost": len(kept - found - last) + len(found & removed - last),
        "stale": len(found ^ live),
        "repaired": len(lines),
        "repaired twice": len(again),
    }


def main() -> None:
    """Kill, count and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    total: Counter[str] = Counter()
    for seed in range(args.seed, args.seed + args.rounds):
        with tempfile.TemporaryDirectory() as folder:
            total.update(kill_round(Path(folder), seed))
        print(dict(total), flush=True)
    if args.out:
        atomic_write_json(args.out, dict(total))
    sys.exit(1 if total["lost"] or total["stale"] else 0)


if __name__ == "__main__":
    main()
