"""Descriptions that fit several tasks: vague words, choices, and both as a step of two."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .general import general_primitives
from .inputs import NOUNS_OF_KIND
from .tasks import (
    CONNECTIVES,
    HELD_OUT_WORDINGS,
    REFERENCES,
    Task,
    make_splits,
    practice_tasks,
    tasks_by_name,
)

MIN_READINGS, MAX_READINGS = 2, 6
NUM_CHOICES = 3_000
NUM_TEST_CHOICES = 40
NUM_TEST_STEPS = 40
TEST_STEP_SHARE = 0.1
CHOICES = ("either {a} or {b}", "{a}, or {b}", "do one of these: {a}; {b}", "{a} or else {b}")
"""How a choice is worded; more than two options nest in the second place."""


@dataclass(frozen=True, kw_only=True)
class Ambiguous:
    """One description, or some that mean the same, and the tasks that it fits."""

    split: str
    descriptions: tuple[str, ...]
    readings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Group:
    split: str
    kind: str
    readings: tuple[str, ...]
    wordings: tuple[str, ...]


@functools.cache
def _groups() -> tuple[_Group, ...]:
    lines = Path(__file__).with_name("ambiguous.txt").read_text().splitlines()
    found = []
    for line in lines:
        if line and not line.startswith("#"):
            split, kind, readings, wordings = line.split(" :: ")
            group = _Group(
                split=split,
                kind=kind,
                readings=tuple(readings.split()),
                wordings=tuple(wordings.split("|")),
            )
            found.append(group)
    return tuple(found)


def _worded(phrases: tuple[str, ...], nouns: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(phrase.format(x=noun) for phrase in phrases for noun in nouns)


def _trainable() -> dict[str, Task]:
    """Tasks that a generator is trained on."""
    seen = {name: tasks_by_name()[name] for name in make_splits()["seen"]}
    return seen | {task.name: task for task in practice_tasks()}


def vague() -> Iterator[Ambiguous]:
    """Vague words alone; no training record has the set of readings of a test group."""
    for group in _groups():
        nouns = NOUNS_OF_KIND[group.kind]
        if group.split == "test":
            for text in _worded(group.wordings, nouns[1:2]):
                yield Ambiguous(split="grouping", descriptions=(text,), readings=group.readings)
            continue
        known, held_out = group.wordings[:-1], group.wordings[-1:]
        yield Ambiguous(split="train", descriptions=_worded(known, nouns), readings=group.readings)
        yield Ambiguous(
            split="wording", descriptions=_worded(held_out, nouns[:1]), readings=group.readings
        )


def steps(rng: random.Random) -> Iterator[Ambiguous]:
    """A vague step and a clear one; some pairs of both are kept for testing."""
    known, tested = _trainable(), 0
    for group in _groups():
        if group.split == "test":
            continue
        if group.kind == "text":
            clear = sorted({n.split("+")[0] for n in known if "+" in n})
            named = {c: [f"{c}+{r}" for r in group.readings] for c in clear}
        else:
            clear = [p.name for p in general_primitives()]
            named = {c: [f"{r}+{c}" for r in group.readings] for c in clear}
        for names in named.values():
            readings = tuple(name for name in names if name in known)[:MAX_READINGS]
            if len(readings) < MIN_READINGS:
                continue
            test = tested < NUM_TEST_STEPS and rng.random() < TEST_STEP_SHARE
            tested += test
            texts = _two_steps(group, known[readings[0]], rng, 1 if test else 6)
            split = "step" if test else "train"
            yield Ambiguous(split=split, descriptions=texts, readings=readings)


def _two_steps(group: _Group, task: Task, rng: random.Random, count: int) -> tuple[str, ...]:
    """Wordings in which one step of `task` is worded by the group."""
    place = 1 if group.kind == "text" else 0
    texts = {}
    for _ in range(count):
        phrases = []
        for i, step in enumerate(task.steps):
            nouns = NOUNS_OF_KIND[task.kind] if i == 0 else REFERENCES
            own = step.wordings[:-HELD_OUT_WORDINGS]
            options = group.wordings[:-1] if i == place else own
            phrases.append(rng.choice(options).format(x=rng.choice(nouns)))
        link = rng.choice(CONNECTIVES[:-HELD_OUT_WORDINGS])
        texts[link.format(a=phrases[0], b=phrases[1])] = None
    return tuple(texts)


def choices(rng: random.Random) -> Iterator[Ambiguous]:
    """Two to four clear descriptions with `or` between; test choices are of unseen compositions."""
    held_out = {name: tasks_by_name()[name] for name in make_splits()["unseen_composition"]}
    apart = [set(group.readings) for group in _groups() if group.split == "test"]
    for split, tasks, count in (
        ("train", _trainable(), NUM_CHOICES),
        ("choice", held_out, NUM_TEST_CHOICES),
    ):
        by_kind: dict[str, list[Task]] = {}
        for task in tasks.values():
            by_kind.setdefault(task.kind, []).append(task)
        kinds = sorted(kind for kind, found in by_kind.items() if len(found) >= MIN_READINGS)
        for _ in range(count):
            found = by_kind[rng.choice(kinds)]
            short = [task for task in found if len(task.steps) == 1]
            if len(short) >= MIN_READINGS and rng.random() < 0.5:
                found = short
            chosen = rng.sample(found, min(len(found), rng.choice((2, 2, 2, 3, 4))))
            if any(len(group & {task.name for task in chosen}) > 1 for group in apart):
                continue
            texts = [task.describe(rng) for task in chosen]
            text = texts[-1]
            for one in reversed(texts[:-1]):
                text = rng.choice(CHOICES).format(a=one, b=text)
            names = tuple(task.name for task in chosen)
            yield Ambiguous(split=split, descriptions=(text,), readings=names)


def all_ambiguous(seed: int = 0) -> list[Ambiguous]:
    """Every ambiguous description of the world, the same list on every machine.

    Splits: `train`; `wording` (a known set of readings in words never seen), `grouping` (a set of
    readings that no training record has), `step` (a known vague step beside a clear one it was never paired with),
    `choice` (an explicit choice between unseen compositions).
    """
    rng = random.Random(f"ambiguous/{seed}")
    return [*vague(), *steps(rng), *choices(rng)]
