"""What one split is measured on: tasks with descriptions, shots and test pairs from a zoo."""

from __future__ import annotations

import random
from dataclasses import dataclass

from lora_gen.errors import ZooError
from lora_gen.zoo.entry import ZooEntry
from lora_gen.zoo.store import Zoo

SPLITS = ("seen", "unseen_wording", "unseen_composition", "unseen_argument", "unseen_primitive")


@dataclass(frozen=True, kw_only=True)
class EvaluationTask:
    """One task, with an oracle adapter in the zoo."""

    name: str
    entry_id: str
    descriptions: tuple[str, ...]
    """Wordings to generate from: the held-out ones on the split of unseen wordings."""
    shots: tuple[tuple[str, str], ...]
    """Pairs that the oracle was trained on; few-shot prompts come from these."""
    tests: tuple[tuple[str, str], ...]
    """Pairs that nothing was trained on."""


def evaluation_tasks(
    zoo: Zoo, *, limit: int | None = None, seed: int = 0
) -> dict[str, list[EvaluationTask]]:
    """Tasks by split, at most `limit` of each, drawn by `seed`.

    The unseen wordings are those that the entries of seen tasks keep under
    `extra["held_out_descriptions"]`.

    Raises:
        ZooError: No entry keeps test pairs under `extra["tests"]`.
    """
    found: dict[str, list[EvaluationTask]] = {}
    for split in SPLITS:
        entries = zoo.entries(split="seen" if split == "unseen_wording" else split)
        usable = sorted((e for e in entries if _tests(e)), key=lambda e: e.task)
        if split == "unseen_wording":
            usable = [e for e in usable if e.extra.get("held_out_descriptions")]
        chosen = (
            usable if limit is None else random.Random(seed).sample(usable, min(limit, len(usable)))
        )
        if chosen:
            found[split] = [_task(entry, split) for entry in chosen]
    if not found:
        raise ZooError(
            'No entry of this zoo keeps test pairs under `extra["tests"]`, so nothing can be '
            "measured. Add entries with tests that their adapters were not trained on."
        )
    return found


def _task(entry: ZooEntry, split: str) -> EvaluationTask:
    held_out: list[str] = list(entry.extra.get("held_out_descriptions", ()))
    return EvaluationTask(
        name=entry.task,
        entry_id=entry.id,
        descriptions=tuple(held_out) if split == "unseen_wording" else entry.descriptions,
        shots=entry.examples,
        tests=_tests(entry),
    )


def _tests(entry: ZooEntry) -> tuple[tuple[str, str], ...]:
    """The entry's test pairs whose input its adapter was not trained on."""
    trained = {text for text, _ in entry.examples}
    return tuple((a, b) for a, b in entry.extra.get("tests", ()) if a not in trained)
