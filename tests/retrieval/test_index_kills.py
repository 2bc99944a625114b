"""A process that is really killed while it adds, removes and rebuilds: the next one goes on."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from retrieval_factories import open_bag, searchable_zoo

pytest.importorskip("lancedb", reason="the extra `search` is not installed")

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


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_index_of_a_killed_process_is_whole_after_the_next_opening(tmp_path, seed):
    ids = searchable_zoo(tmp_path / "zoo")
    with open_bag(tmp_path):
        pass
    told = killed_after(tmp_path, random.Random(seed).uniform(0, 0.6), 100 * (seed + 1))
    removed = {entry_id for word, entry_id in told if word == "removed"}
    added = {entry_id for word, entry_id in told if word == "added"} - removed
    with open_bag(tmp_path) as index:
        found, _ = index.vectors("text")
        assert set(found) == set(index.zoo.ids())
        assert set(ids) | added <= {*found, *_last(told)}
        assert len(index.repairs) <= 1
    with open_bag(tmp_path) as index:
        assert index.repairs == ()


def _last(told: list[list[str]]) -> set[str]:
    """The adapter that the killed process may have been removing."""
    return {told[-1][1]} if told else set()
