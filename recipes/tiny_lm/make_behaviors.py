"""Write the behavior file and the split file of the world.

python -m recipes.tiny_lm.make_behaviors --out build/tiny_lm

A few seconds. Training reads the split `seen`; the others are for evaluation only.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from recipes.tiny_lm.train_adapters import record
from recipes.tiny_lm.world.tasks import tasks_by_name, write_splits
from training.behavior_data import BehaviorRecord, write_behaviors


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", required=True)
    out = Path(parser.parse_args().out)
    out.mkdir(parents=True, exist_ok=True)
    splits = write_splits(out / "splits.json")
    tasks = tasks_by_name()
    records = []
    for split, names in splits.items():
        for name in names:
            found = record(tasks[name], split, 0)
            records.append(
                BehaviorRecord(
                    task=name,
                    split=split,
                    descriptions=found["descriptions"],
                    examples=found["examples"],
                )
            )
    write_behaviors(out / "behaviors.jsonl", records)
    print({split: len(names) for split, names in splits.items()})


if __name__ == "__main__":
    main()
