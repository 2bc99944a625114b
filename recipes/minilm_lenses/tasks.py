"""What lenses are measured on: criteria with sentences of held-out words, and hand-written ones."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

from lora_gen.evaluation.lenses import LensTask
from recipes.minilm_lenses.train_lenses import TEST_SEED, examples_of
from recipes.minilm_lenses.world.criteria import (
    WATCHED,
    descriptions,
    family_of,
    make_splits,
    naming,
)
from recipes.minilm_lenses.world.handwritten import HAND, handwritten, handwritten_criteria
from recipes.minilm_lenses.world.sentences import corpus
from recipes.minilm_lenses.world.tables import criteria

SENTENCES = 72
"""Of held-out words, values in turn."""
EXAMPLES = 32
"""Labeled sentences that a task has at most, of training's words."""
OTHERS = 4
"""Other criteria whose loss is measured, those that most of the sentences realize."""
SEEN, NEW, UNTOUCHED = "seen", "unseen_primitive", "unseen_primitive, never looked at"
HAND_SEEN, HAND_NEW = f"{HAND}, seen criteria", f"{HAND}, unseen criteria"


def task_of(key: str) -> LensTask:
    """The task of a criterion on sentences of held-out vocabulary."""
    found = corpus(key, SENTENCES, TEST_SEED, is_held_out=True)
    counts = Counter(other for one in found for other in one.labels if other != key)
    common = sorted(name for name, _ in counts.most_common(OTHERS))
    return LensTask(
        name=key,
        description=descriptions(key, 1)[0],
        wording=descriptions(key, 1, is_held_out=True)[0],
        named=naming(key, criteria()[key].values, 1)[0],
        texts=tuple(one.text for one in found),
        values=tuple(one.labels[key] for one in found),
        sources=tuple(one.sources.get(key) for one in found),
        names=names_of(key),
        examples=tuple(examples_of(key)[:EXAMPLES]),
        others={name: tuple(one.labels.get(name) for one in found) for name in common},
    )


def handwritten_task(key: str) -> LensTask:
    """The task of a criterion on the hand-written sentences."""
    found = [(one.text, one.labels[key]) for one in handwritten() if key in one.labels]
    return LensTask(
        name=key,
        description=descriptions(key, 1)[0],
        wording=descriptions(key, 1, is_held_out=True)[0],
        named=naming(key, criteria()[key].values, 1)[0],
        texts=tuple(text for text, _ in found),
        values=tuple(value for _, value in found),
        sources=tuple(None for _ in found),
        names=names_of(key),
        examples=tuple(examples_of(key)[:EXAMPLES]),
    )


def names_of(key: str) -> dict[str, str]:
    """Each value of a criterion in words."""
    criterion = criteria()[key]
    return {value: f"{criterion.sayings[0][0]}: {value}" for value in criterion.values}


def tasks_of(known: Collection[str], limit: int | None) -> dict[str, list[LensTask]]:
    """Split -> tasks among the criteria that are known, at most `limit` of the seen ones."""
    splits = {name: sorted({*known} & {*keys}) for name, keys in make_splits().items()}
    tasks: dict[str, list[LensTask]] = {}
    for name, keys in splits.items():
        random.Random(0).shuffle(keys)
        some = keys[: limit if name == SEEN else None]
        tasks[name] = _told([task_of(key) for key in some])
    for name, kind in ((SEEN, HAND_SEEN), (NEW, HAND_NEW)):
        keys = [key for key in handwritten_criteria() if key in splits[name]]
        tasks[kind] = _told([handwritten_task(key) for key in keys])
    return {name: found for name, found in tasks.items() if len(found) > 1}


def is_watched(key: str) -> bool:
    """Whether an unseen criterion may have been looked at before the end."""
    return family_of(criteria()[key]) in WATCHED


def _told(tasks: Sequence[LensTask]) -> list[LensTask]:
    """Each with the words of the next one that is of another family."""
    found = []
    for i, task in enumerate(tasks):
        rest = [*tasks[i + 1 :], *tasks[:i]]
        own = family_of(criteria()[task.name])
        other = next((t for t in rest if family_of(criteria()[t.name]) != own), task)
        found.append(replace(task, other_words=other.description))
    return found
