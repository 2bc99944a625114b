"""What the encoder reads besides adapters: wordings of tasks, and tasks to choose settings on.

    python -m recipes.tiny_lm.encoder_texts --out build/tiny_lm

Writes `encoder_texts.jsonl` (wordings of all tasks, with or without an adapter) and
`encoder_validation.json`:
seen tasks like those of the three unseen splits (steps, arguments and pairs that nothing else then
teaches), with every practice task that would give them away. Settings are chosen with
`task.validation_tasks` set to that file; the unseen splits are looked at once, in the report.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from recipes.tiny_lm.world.tasks import Task, all_tasks, make_splits, practice_tasks

HELD_ARGUMENTS = {"first_2", "last_5", "drop_first_3", "drop_last_1", "mask_keep_last_2"}
HELD_STEPS = {
    "repeat",
    "url_site",
    "date_iso",
    "list_and",
    "email_mask",
    "keep_letters",
    "path_stem",
    "price_code_last",
    "mask_letters",
}
NUM_COMPOSITIONS = 110
NUM_WORDINGS, NUM_PRACTICE = 8, 3


def validation_tasks(seen: Sequence[str], others: Sequence[str]) -> dict[str, str]:
    """Task -> what is held out of it: `primitive`, `argument`, `composition`.

    Args:
        seen: Tasks to choose from.
        others: Practice tasks; those with a held step or argument are held as well.
    """
    found = {}
    for name in (*seen, *others):
        steps = set(name.split("+"))
        if steps & HELD_STEPS:
            found[name] = "primitive"
        elif steps & HELD_ARGUMENTS:
            found[name] = "argument"
    rest = [name for name in seen if name not in found]
    uses = Counter(step for name in rest for step in name.split("+"))
    pairs = sorted(name for name in rest if "+" in name)
    random.Random(7).shuffle(pairs)
    for name in pairs:
        enough = all(uses[step] > 4 for step in name.split("+"))
        if enough and Counter(found.values())["composition"] < NUM_COMPOSITIONS:
            found[name] = "composition"
            uses.subtract(name.split("+"))
    return found


def text_lines() -> list[str]:
    """One JSON record a task: wordings, and some that are held out of training."""
    split_of = {name: split for split, names in make_splits().items() for name in names}
    lines = []
    for task in all_tasks():
        lines.append(_record(task, split_of[task.name], NUM_WORDINGS, draws=48))
    for task in practice_tasks():
        lines.append(_record(task, "practice", NUM_PRACTICE, draws=NUM_PRACTICE * 4))
    return lines


def _record(task: Task, split: str, count: int, *, draws: int) -> str:
    rng = random.Random(f"describe/{task.name}")
    wordings = list(dict.fromkeys(task.describe(rng) for _ in range(draws)))
    held = list(dict.fromkeys(task.describe(rng, held_out=True) for _ in range(4)))
    record = {
        "task": task.name,
        "split": split,
        "descriptions": wordings[: count if split in ("seen", "practice") else 2],
        "held_out": held[: 1 if split == "seen" else 2],
    }
    return json.dumps(record)


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "encoder_texts.jsonl").write_text("\n".join(text_lines()) + "\n")
    held = validation_tasks(make_splits()["seen"], [task.name for task in practice_tasks()])
    (args.out / "encoder_validation.json").write_text(json.dumps(held, indent=1) + "\n")


if __name__ == "__main__":
    main()
