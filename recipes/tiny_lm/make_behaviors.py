"""Write the behavior file, the ambiguous descriptions and the split file of the world.

python -m recipes.tiny_lm.make_behaviors --out build/tiny_lm

A minute. Training reads `seen` and `practice`; the other splits are for evaluation only.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from recipes.tiny_lm.train_adapters import record
from recipes.tiny_lm.world.ambiguous import all_ambiguous
from recipes.tiny_lm.world.tasks import practice_tasks, tasks_by_name, write_splits
from training.ambiguity import AmbiguousRecord, write_ambiguous
from training.behavior_data import BehaviorRecord, write_behaviors

NUM_DESCRIPTIONS = {True: 24, False: 8}
"""Wordings of a task: more where the wording itself is what a split tests."""


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
    print({split: len(names) for split, names in splits.items()})


if __name__ == "__main__":
    main()
