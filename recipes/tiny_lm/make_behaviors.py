"""Write the behavior file, the ambiguous descriptions and the split file of the world.

python -m recipes.tiny_lm.make_behaviors --out build/tiny_lm

A minute. Training reads `seen` and `practice`; the other splits are for evaluation only.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lora_gen.files import atomic_write_text
from recipes.tiny_lm.train_adapters import TRAIN_PAIRS, TRAIN_SEED, record
from recipes.tiny_lm.world.ambiguous import Ambiguous, all_ambiguous
from recipes.tiny_lm.world.tasks import Task, pairs, practice_tasks, tasks_by_name, write_splits
from training.ambiguity import AmbiguousRecord, write_ambiguous
from training.behavior_data import BehaviorRecord, write_behaviors

NUM_OPEN_PAIRS, OPEN_SEED = 24, 3
"""Pairs of each reading of a held-out ambiguous description: 8 to show, 16 to test."""
NUM_DESCRIPTIONS = {True: 24, False: 8}
"""Wordings of a task: more where the wording itself is what a split tests."""


def tested(found: Ambiguous, tasks: Mapping[str, Task]) -> dict[str, Any] | None:
    """A held-out ambiguous description with pairs of each reading that no training has seen.

    None if a reading has too few inputs for that.
    """
    rows = {}
    for name in found.readings:
        trained = dict(pairs(tasks[name], TRAIN_PAIRS, TRAIN_SEED))
        fresh = [
            p for p in pairs(tasks[name], 3 * NUM_OPEN_PAIRS, OPEN_SEED) if p[0] not in trained
        ]
        rows[name] = fresh[:NUM_OPEN_PAIRS]
    enough = all(len(found) == NUM_OPEN_PAIRS for found in rows.values())
    return {**asdict(found), "pairs": rows} if enough else None


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", required=True)
    out = Path(parser.parse_args().out)
    out.mkdir(parents=True, exist_ok=True)
    splits = write_splits(out / "splits.json")
    splits["practice"] = [task.name for task in practice_tasks()]
    tasks = tasks_by_name() | {task.name: task for task in practice_tasks()}
    records = []
    for split, names in splits.items():
        for name in names:
            found = record(tasks[name], split, 0, descriptions=NUM_DESCRIPTIONS[split == "seen"])
            records.append(
                BehaviorRecord(
                    task=name,
                    split=split,
                    descriptions=found["descriptions"],
                    examples=found["examples"],
                )
            )
    write_behaviors(out / "behaviors.jsonl", records)
    write_ambiguous(
        out / "ambiguous.jsonl", [AmbiguousRecord(**asdict(found)) for found in all_ambiguous()]
    )
    open_tests = [tested(found, tasks) for found in all_ambiguous() if found.split != "train"]
    text = "".join(json.dumps(one) + "\n" for one in open_tests if one is not None)
    atomic_write_text(out / "ambiguous_tests.jsonl", text)
    print({split: len(names) for split, names in splits.items()})


if __name__ == "__main__":
    main()
