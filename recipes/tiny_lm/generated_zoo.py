"""A zoo of what the shipped generator makes, measured: so that `score` knows such adapters too.

    python -m recipes.tiny_lm.generated_zoo --zoo build/tiny_lm/zoo
        --out build/tiny_lm/generated_zoo

One adapter a task from one wording, at rank 1, 2 or 4 and with 1, 2 or 4 steps, drawn apart from
the task. `accuracy` is exact match on the task's held-out tests. `extra.generated` holds what was
asked of the generator.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm  # type: ignore[import-untyped]

from lora_gen.adapter.adapter import Adapter
from lora_gen.assets import default_generator
from lora_gen.evaluation.bench import STACK, Bench, open_bench, scores
from lora_gen.evaluation.tasks import EvaluationTask, evaluation_tasks
from lora_gen.zoo.entry import EntryInfo
from lora_gen.zoo.splits import require_split
from lora_gen.zoo.store import Zoo

RANKS, STEPS = (1, 2, 4, 4), (1, 2, 4, 4)


def generate(bench: Bench, task: EvaluationTask) -> tuple[Adapter, dict[str, Any]]:
    """An adapter for a task, and what was asked for."""
    rng = random.Random(f"generated/{task.name}")
    asked = {
        "text": rng.choice(task.descriptions),
        "rank": rng.choice(RANKS),
        "steps": rng.choice(STEPS),
        "seed": rng.randrange(2**31),
    }
    made = bench.pipe(
        asked["text"],
        base=bench.spec,
        rank=asked["rank"],
        num_inference_steps=asked["steps"],
        generator=torch.Generator().manual_seed(asked["seed"]),
    )
    adapter: Adapter = made.adapters[0]
    return adapter, asked


def items(bench: Bench, tasks: list[EvaluationTask], split: str) -> list[tuple[Adapter, EntryInfo]]:
    """Adapters of some tasks with their entries."""
    made = [generate(bench, task) for task in tasks]
    found = scores(bench, tasks, [adapter for adapter, _ in made])
    return [
        (
            adapter,
            EntryInfo(
                task=task.name,
                split=require_split(split),
                descriptions=task.descriptions[:2],
                accuracy=accuracy,
                extra={"generated": asked},
            ),
        )
        for task, (adapter, asked), accuracy in zip(tasks, made, found, strict=True)
    ]


def main() -> None:
    """Generate and measure what is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--zoo", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--base", default="tiny_lm")
    parser.add_argument("--generator", type=Path, default=default_generator())
    parser.add_argument("--seen", type=int, default=400)
    parser.add_argument("--unseen", type=int, default=70, help="tasks of each unseen split")
    parser.add_argument("--inputs", type=int, default=12)
    args = parser.parse_args()
    with (
        open_bench(args.zoo, args.generator, args.base, inputs=args.inputs) as bench,
        Zoo.open(args.out, create=True) as target,
    ):
        done = {entry.task for entry in target.entries()}
        for split, tasks in evaluation_tasks(bench.zoo).items():
            if split == "unseen_wording":
                continue
            limit = args.seen if split == "seen" else args.unseen
            drawn = random.Random(0).sample(tasks, min(limit, len(tasks)))
            missing = [task for task in drawn if task.name not in done]
            for start in tqdm(range(0, len(missing), STACK), desc=split):
                target.add_many(items(bench, missing[start : start + STACK], split))


if __name__ == "__main__":
    main()
