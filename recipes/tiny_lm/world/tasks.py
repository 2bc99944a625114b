"""Tasks: one primitive or a composition of two, with inputs, outputs, descriptions and split."""

from __future__ import annotations

import functools
import json
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from .general import HELD_OUT_ARGUMENTS, general_primitives
from .inputs import KINDS, NOUNS_OF_KIND, any_kind
from .primitive import Primitive
from .specific_data import data_primitives
from .specific_names import name_primitives

MAX_OUTPUT = 40
NUM_SPECIFIC_COMPOSITIONS = 1_200
NUM_GENERAL_COMPOSITIONS = 300
NUM_UNSEEN_COMPOSITIONS = 180
HELD_OUT_WORDINGS = 2
HELD_OUT_PRIMITIVES = (
    "swapcase",
    "mask_vowels",
    "code_swap",
    "id_constant",
    "pair_flag",
    "address_zip_city",
    "person_abbrev_last",
    "list_semicolons",
)
CONNECTIVES = (
    "{a}, then {b}",
    "{a}; after that {b}",
    "{a}, followed by this: {b}",
    "first {a}, then {b}",
    "{a} and then {b}",
    "{a}. Next, {b}",
    "start with this: {a}. Finish with this: {b}",
    "{a}; {b}",
    "{a}, next {b}",
    "1. {a} 2. {b}",
    "step one: {a}; step two: {b}",
    "{a}. When that is done, {b}",
    "to begin with, {a}; finally {b}",
    "two steps: {a}, {b}",
    "{a}, and once you have that, {b}",
    "please {a} and {b}",
    # the last two are held out of training
    "{a}, and afterwards {b}",
    "do two things: {a}; as the second step {b}",
)
REFERENCES = ("it", "the result", "that", "what you get", "the output")
"""How the second step calls what the first one made."""


@dataclass(frozen=True)
class Task:
    """One task of the world."""

    name: str
    kind: str
    steps: tuple[Primitive, ...]

    def __call__(self, text: str) -> str:
        """The right output for an input line."""
        for step in self.steps:
            text = step.function(text)
        return text

    def draw(self, rng: random.Random) -> tuple[str, str]:
        """One (input, output) pair; the output is never empty and rarely equals the input."""
        sample = KINDS.get(self.kind, any_kind)
        for _ in range(200):
            text = sample(rng)
            output = self(text).strip()
            changed = output != text or rng.random() < 0.15
            if output and len(output) <= MAX_OUTPUT and output == self(text) and changed:
                return text, output
        raise ValueError(f"`{self.name}` gave no usable pair in 200 draws.")

    def describe(self, rng: random.Random, *, held_out: bool = False) -> str:
        """One English description; `held_out` takes the wordings that training never sees."""
        phrases = []
        for i, step in enumerate(self.steps):
            options = (
                step.wordings[-HELD_OUT_WORDINGS:]
                if held_out
                else step.wordings[:-HELD_OUT_WORDINGS]
            )
            nouns = NOUNS_OF_KIND[self.kind] if i == 0 else REFERENCES
            phrases.append(rng.choice(options).format(x=rng.choice(nouns)))
        if len(phrases) == 1:
            return phrases[0]
        options = CONNECTIVES[-HELD_OUT_WORDINGS:] if held_out else CONNECTIVES[:-HELD_OUT_WORDINGS]
        return rng.choice(options).format(a=phrases[0], b=phrases[1])


def pairs(task: Task, count: int, seed: int) -> list[tuple[str, str]]:
    """`count` pairs with different inputs where the kind has as many."""
    rng = random.Random(f"{task.name}/{seed}")
    found: dict[str, str] = {}
    for _ in range(count * 20):
        text, output = task.draw(rng)
        found.setdefault(text, output)
        if len(found) == count:
            break
    return list(found.items())


def _makes_sense(task: Task) -> bool:
    """Both steps matter, the output is not empty and not a constant."""
    rng = random.Random(task.name)
    sample = KINDS.get(task.kind, any_kind)
    first, second = task.steps
    good, outputs = 0, set()
    for _ in range(40):
        text = sample(rng)
        middle = first.function(text)
        output = second.function(middle)
        outputs.add(output)
        usable = bool(output.strip()) and output == output.strip() and len(output) <= MAX_OUTPUT
        good += usable and output not in (middle, text, second.function(text))
    return good >= 28 and len(outputs) >= 4


def _candidates(firsts: list[Primitive], seconds: list[Primitive], seed: int) -> list[Task]:
    found = [
        Task(f"{a.name}+{b.name}", a.kind, (a, b))
        for a in firsts
        for b in seconds
        if a.family != b.family
    ]
    random.Random(seed).shuffle(found)
    return found


def _compositions(
    firsts: list[Primitive], seconds: list[Primitive], count: int, seed: int
) -> list[Task]:
    chosen: list[Task] = []
    for task in _candidates(firsts, seconds, seed):
        if len(chosen) < count and _makes_sense(task):
            chosen.append(task)
    return chosen


@functools.cache
def all_tasks() -> tuple[Task, ...]:
    """Every task of the world, primitives first; the same list on every machine."""
    general, specific = general_primitives(), [*name_primitives(), *data_primitives()]
    singles = [Task(p.name, p.kind, (p,)) for p in [*specific, *general]]
    return (
        *singles,
        *_compositions(specific, general, NUM_SPECIFIC_COMPOSITIONS, 1),
        *_compositions(general, general, NUM_GENERAL_COMPOSITIONS, 2),
    )


@functools.cache
def practice_tasks() -> tuple[Task, ...]:
    """Compositions that make sense beyond those of `all_tasks`, of seen steps only.

    They have no adapter, and the base has never read their lines: labels alone, for training by
    behavior, where the number of distinct tasks decides what generalizes.
    """
    general, specific = general_primitives(), [*name_primitives(), *data_primitives()]
    known = tasks_by_name()
    candidates = [*_candidates(specific, general, 1), *_candidates(general, general, 2)]
    return tuple(
        task
        for task in candidates
        if task.name not in known and not _is_held_out(task) and _makes_sense(task)
    )


def _is_held_out(task: Task) -> bool:
    return any(
        step.family in HELD_OUT_PRIMITIVES or _is_held_out_argument(step) for step in task.steps
    )


def _is_held_out_argument(step: Primitive) -> bool:
    return HELD_OUT_ARGUMENTS.get(step.family) == step.argument and step.argument is not None


def make_splits(seed: int = 0) -> dict[str, list[str]]:
    """Task names by split; a composition is held out only if both its steps are seen elsewhere."""
    splits: dict[str, list[str]] = {
        name: [] for name in ("seen", "unseen_composition", "unseen_argument", "unseen_primitive")
    }
    open_tasks = []
    for task in all_tasks():
        if any(step.family in HELD_OUT_PRIMITIVES for step in task.steps):
            splits["unseen_primitive"].append(task.name)
        elif any(_is_held_out_argument(step) for step in task.steps):
            splits["unseen_argument"].append(task.name)
        else:
            open_tasks.append(task)
    uses = Counter(step.name for task in open_tasks for step in task.steps)
    compositions = [task for task in open_tasks if len(task.steps) == 2]
    random.Random(seed).shuffle(compositions)
    for task in compositions:
        enough = all(uses[step.name] > 4 for step in task.steps)
        if enough and len(splits["unseen_composition"]) < NUM_UNSEEN_COMPOSITIONS:
            splits["unseen_composition"].append(task.name)
            uses.subtract(step.name for step in task.steps)
    held = set(splits["unseen_composition"])
    splits["seen"] = [task.name for task in open_tasks if task.name not in held]
    return splits


def tasks_by_name() -> dict[str, Task]:
    """Name -> task."""
    return {task.name: task for task in all_tasks()}


def write_splits(path: Path, seed: int = 0) -> dict[str, list[str]]:
    """Write the split file; the wording split is the seen tasks under held-out wordings."""
    splits = make_splits(seed)
    path.write_text(json.dumps({"seed": seed, "splits": splits}, indent=1) + "\n")
    return splits
