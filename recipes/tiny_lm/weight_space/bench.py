"""The base, the zoo and the score that every measurement here shares."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.base_model import BaseModelSpec, resolve_base
from lora_gen.adapter.stacked import stack_adapters
from lora_gen.conditioning.chat import load_causal_lm
from lora_gen.evaluation.behavior import exact_matches
from lora_gen.evaluation.statistics import mean_interval
from lora_gen.zoo.entry import ZooEntry
from lora_gen.zoo.store import Zoo
from recipes.tiny_lm.weight_space import REPORTS
from recipes.tiny_lm.world.tasks import tasks_by_name

HELD_OUT = ("unseen_composition", "unseen_argument", "unseen_primitive")
_LINES = 512  # rows of one pass of the base
_GOOD = 0.75  # an adapter that does not do its task says nothing about what was done to it

Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Task:
    """A task of the zoo with its adapter and inputs that the adapter was not trained on."""

    entry: ZooEntry
    adapter: Adapter
    tests: tuple[tuple[str, str], ...]

    @property
    def kind(self) -> str:
        """What the task's inputs are: an email address, a date and so on."""
        return tasks_by_name()[self.entry.task].kind


class Bench:
    """Loads once, scores stacks of adapters."""

    def __init__(self, zoo: str = "build/tiny_lm/zoo", inputs: int = 16) -> None:
        self.zoo = Zoo.open(zoo, read_only=True)
        self.model, self.chat = load_causal_lm("tiny_lm")
        self.spec = BaseModelSpec.from_config(str(resolve_base("tiny_lm")))
        self.inputs = inputs

    def tasks(self, splits: Sequence[str], count: int, seed: int = 0) -> list[Task]:
        """`count` tasks whose adapters do them, drawn by `seed`."""
        entries = [e for split in splits for e in self.zoo.entries(split=split)]
        good = sorted(
            (e for e in entries if (e.accuracy or 0) >= _GOOD and len(tests_of(e)) >= self.inputs),
            key=lambda e: e.task,
        )
        random.Random(seed).shuffle(good)
        return [self.task(entry) for entry in good[:count]]

    def task(self, entry: ZooEntry) -> Task:
        """The task of an entry."""
        return Task(entry, self.zoo.load(entry.id), tests_of(entry))

    def scores(
        self, adapters: Sequence[Adapter], tests: Sequence[Pairs], inputs: int | None = None
    ) -> list[float]:
        """Exact match of each adapter on its own tests."""
        count = inputs or self.inputs
        step = max(1, _LINES // count)
        found: list[float] = []
        for start in range(0, len(adapters), step):
            part = [list(rows[:count]) for rows in tests[start : start + step]]
            lines = self.chat.pack([self.chat.line(*pair) for rows in part for pair in rows])
            factors = stack_adapters(adapters[start : start + step])
            with torch.no_grad():
                hits = exact_matches(self.model, lines, factors).view(len(part), count)
            found += [float(row.float().mean()) for row in hits]
        return found


def save(name: str, report: dict[str, Any]) -> None:
    """Write one report."""
    REPORTS.mkdir(parents=True, exist_ok=True)
    (REPORTS / f"{name}.json").write_text(json.dumps(report, indent=1) + "\n")
    print(f"wrote {REPORTS / name}.json", flush=True)


def load(name: str) -> dict[str, Any] | None:
    """A report that was written before, or None."""
    path = REPORTS / f"{name}.json"
    found: dict[str, Any] | None = json.loads(path.read_text()) if path.is_file() else None
    return found


def interval(values: Sequence[float], clusters: Sequence[Any] | None = None) -> dict[str, float]:
    """Mean with a 95% bootstrap interval, rounded for a report."""
    found = mean_interval(values, clusters=clusters).to_dict()
    return {key: round(value, 4) for key, value in found.items() if key != "confidence"}


def tests_of(entry: ZooEntry) -> tuple[tuple[str, str], ...]:
    """Pairs that the entry's adapter was not trained on."""
    trained = {text for text, _ in entry.examples}
    return tuple((a, b) for a, b in entry.extra.get("tests", ()) if a not in trained)
