"""Ordinary messy sentences that the grammar did not make, with values of some criteria."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from pathlib import Path

from recipes.minilm_lenses.world.sentences import Sentence

HAND = "hand-written"
ENOUGH = 10
"""Sentences that a criterion needs to be measured on."""


@cache
def handwritten() -> tuple[Sentence, ...]:
    """Every sentence, in the order of the file."""
    lines = (Path(__file__).parent / "handwritten.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return tuple(Sentence(row["text"], row["labels"], {}) for row in rows)


def handwritten_criteria() -> tuple[str, ...]:
    """Keys of the criteria that enough of the sentences realize, the most frequent first.

    Two values at least must each have a companion, or nothing could be ranked.
    """
    counts: dict[str, Counter[str]] = {}
    for one in handwritten():
        for key, value in one.labels.items():
            counts.setdefault(key, Counter())[value] += 1
    found = {key: count.total() for key, count in counts.items() if count.total() >= ENOUGH}
    measurable = [key for key in found if sum(n > 1 for n in counts[key].values()) > 1]
    return tuple(sorted(measurable, key=lambda key: (-found[key], key)))
