"""A zoo of what the shipped generator makes, measured: what `score` says of such is fitted to it.

    python -m recipes.tiny_lm.generated_zoo --zoo build/tiny_lm/zoo
        --out build/tiny_lm/generated_zoo

Candidates for a few hundred tasks of every split, from one wording, of one rank and with one number
of steps, drawn apart from the task: four for the first requests, one for the rest, since candidates
of one request hardly differ. `accuracy` is exact match on the task's
held-out tests. `extra.generated` holds what was asked of the generator; its `kind` is the split,
`unseen_wording` for held-out words of a seen task.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
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

RANKS, STEPS = (1, 2, 4, 4, 4, 8), (1, 2, 4, 4, 4, 4)
SAMPLES, CHOSEN = 4, 368
"""Candidates of a request, and how many requests have more than one."""

Request = tuple[str, EvaluationTask]
"""Kind and task."""


def requests(
    tasks: dict[str, list[EvaluationTask]], *, seen: int, unseen: int, seed: int = 0
) -> list[Request]:
    """What is asked for, kinds mixed, so that any first part of it is a fair sample."""
    rng, found = random.Random(seed), []
    for kind, own in tasks.items():
        limit = unseen if kind in ("unseen_composition", "unseen_argument") else seen
        limit = unseen if kind == "unseen_primitive" else limit
        found += [(kind, task) for task in rng.sample(own, min(limit, len(own)))]
    rng.shuffle(found)
    return found


def generate(
    bench: Bench, kind: str, task: EvaluationTask, count: int
) -> tuple[list[Adapter], dict[str, Any]]:
    """Candidates for a request, and what was asked for."""
    rng = random.Random(f"generated/{kind}/{task.name}")
    asked: dict[str, Any] = {
        "kind": kind,
        "text": rng.choice(task.descriptions),
        "rank": rng.choice(RANKS),
        "steps": rng.choice(STEPS),
        "seed": rng.randrange(2**31),
    }
    made = bench.pipe(
        asked["text"],
        base=bench.spec,
        rank=asked["rank"],
        num_adapters=count,
        num_inference_steps=asked["steps"],
        generator=torch.Generator().manual_seed(asked["seed"]),
    )
    return list(made.adapters), asked


def items(bench: Bench, chosen: Sequence[Request], count: int) -> list[tuple[Adapter, EntryInfo]]:
    """Adapters of some requests with their entries."""
    made = [generate(bench, kind, task, count) for kind, task in chosen]
    flat = [
        (adapter, task, {**asked, "candidate": number})
        for (_, task), (adapters, asked) in zip(chosen, made, strict=True)
        for number, adapter in enumerate(adapters)
    ]
    found = scores(bench, [task for _, task, _ in flat], [adapter for adapter, _, _ in flat])
    return [
        (
            adapter,
            EntryInfo(
                task=task.name,
                split=require_split(split_of(asked["kind"])),
                descriptions=(asked["text"],),
                accuracy=accuracy,
                extra={"generated": asked},
            ),
        )
        for (adapter, task, asked), accuracy in zip(flat, found, strict=True)
    ]


def split_of(kind: str) -> str:
    """The split that a zoo knows: held-out words ask for a seen task."""
    return "seen" if kind == "unseen_wording" else kind


def main() -> None:
    """Generate and measure what is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--zoo", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--base", default="tiny_lm")
    parser.add_argument("--generator", type=Path, default=default_generator())
    parser.add_argument("--seen", type=int, default=250, help="seen tasks, twice: two wordings")
    parser.add_argument("--unseen", type=int, default=180, help="tasks of each unseen split")
    parser.add_argument("--inputs", type=int, default=20)
    args = parser.parse_args()
    with (
        open_bench(args.zoo, args.generator, args.base, inputs=args.inputs) as bench,
        Zoo.open(args.out, create=True) as target,
    ):
        done = {(e.extra["generated"]["kind"], e.task) for e in target.entries()}
        wanted = requests(evaluation_tasks(bench.zoo), seen=args.seen, unseen=args.unseen)
        for count, part in ((SAMPLES, wanted[:CHOSEN]), (1, wanted[CHOSEN:])):
            missing = [one for one in part if (one[0], one[1].name) not in done]
            for start in tqdm(range(0, len(missing), STACK // count), mininterval=10):
                chosen = missing[start : start + STACK // count]
                target.add_many(items(bench, chosen, count))


if __name__ == "__main__":
    main()
