"""Inversion of adapters that the generator never saw, and edits by other words.

First: how much of a held-out adapter's task does the generator do under the nearest of candidate
words, and under token states fitted to the adapter's own answers? Second, on the compositions that
`edit` is measured on: an adapter of the first step alone, and words for both.

python -m recipes.tiny_lm.weight_space.invert
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.base_model import BaseModelSpec
from lora_gen.assets import default_generator
from lora_gen.evaluation.inversion import candidate_words, invert, nearest_words, reworded
from lora_gen.pipeline import LoraGenPipeline
from recipes.tiny_lm.weight_space.bench import HELD_OUT, Bench, Task, interval, save
from recipes.tiny_lm.weight_space.edit import held_out_edits

TASKS, WORDS, OTHERS, SHOTS, STEPS = 10, 6, 4, 8, 15


def inversions(bench: Bench, pipe: LoraGenPipeline) -> dict[str, list[float]]:
    """Exact match on the adapters' tasks, on inputs that the inversion did not read.

    Candidates are descriptions of the seen adapters nearest by delta weights, and some of any.
    """
    tasks = bench.tasks(HELD_OUT, TASKS, 3)
    candidates = _candidates(bench, tasks)
    made: dict[str, list[Adapter]] = {}
    base = (bench.model, bench.chat)
    for task in tasks:
        # The adapters do their tasks, so these are their own answers.
        examples = task.entry.examples[:SHOTS]
        texts = candidates[task.entry.task]
        found = nearest_words(pipe, base, texts, examples, spec=bench.spec)[0][0]
        done = invert(pipe, base, found, examples, spec=bench.spec, steps=STEPS)
        print(task.entry.task, "|", found, "|", done.losses[0], done.losses[-1], flush=True)
        noise = torch.Generator().manual_seed(0)
        word = pipe(found, base=bench.spec, generator=noise).adapters[0]
        own = pipe(task.entry.descriptions[0], base=bench.spec).adapters[0]
        made.setdefault("given adapter", []).append(task.adapter)
        made.setdefault("generated from its own words", []).append(own)
        made.setdefault("generated from the nearest words found", []).append(word)
        made.setdefault("generated from fitted states", []).append(done.adapter)
    return {name: bench.scores(found, [t.tests for t in tasks]) for name, found in made.items()}


def _candidates(bench: Bench, tasks: Sequence[Task]) -> dict[str, list[str]]:
    """Task -> descriptions of seen entries."""
    rng = random.Random(0)
    seen = [entry.descriptions[0] for entry in bench.zoo.entries(split="seen")]
    near = candidate_words(bench.zoo, [task.adapter for task in tasks], count=WORDS)
    return {
        task.entry.task: list(dict.fromkeys([*texts, *rng.sample(seen, OTHERS)]))
        for task, texts in zip(tasks, near, strict=True)
    }


def edits(bench: Bench, pipe: LoraGenPipeline) -> tuple[dict[str, list[float]], list[str]]:
    """Exact match on both steps of adapters of the first step, edited by words; and clusters."""
    pairs = held_out_edits(bench)
    clusters = [second for second, _, _ in pairs]
    rows: dict[str, list[float]] = {}
    tests = [goal.tests for _, _, goal in pairs]
    # By its name, which is what the adapters of the zoo call their base.
    spec = BaseModelSpec.from_config("tiny_lm")
    made: dict[str, list[Adapter]] = {}
    for second, start, goal in pairs:
        old, new = _words(start, goal)
        noise = torch.Generator().manual_seed(0)
        made.setdefault("generated from the new words", []).append(
            pipe(new, base=spec, generator=noise).adapters[0]
        )
        for strength in (1.0,):
            moved = reworded(pipe, start.adapter, old, new, spec=spec, strength=strength, rank=16)
            made.setdefault(f"moved by the change of words, strength {strength:g}", []).append(
                moved.adapter
            )
        print(second, "|", old, "|", new, flush=True)
    for name, found in made.items():
        rows[name] = bench.scores(found, tests)
    return rows, clusters


def _words(start: Task, goal: Task) -> tuple[str, str]:
    return start.entry.descriptions[0], goal.entry.descriptions[0]


def measure(bench: Bench) -> dict[str, Any]:
    """Both tables."""
    pipe = LoraGenPipeline.from_pretrained(default_generator())
    found = inversions(bench, pipe)
    rows, clusters = edits(bench, pipe)
    report = {
        "tasks": TASKS,
        "examples": SHOTS,
        "candidates": WORDS + OTHERS,
        "steps": STEPS,
        "inversion": {name: interval(values) for name, values in found.items()},
        "edits": len(clusters),
        "edit": {name: interval(values, clusters) for name, values in rows.items()},
    }
    save("invert", report)
    return report


if __name__ == "__main__":
    print(measure(Bench()))
