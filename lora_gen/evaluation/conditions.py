"""What each part of a request carries: text, examples, prompts, alone and together.

    python -m lora_gen.evaluation.conditions --zoo ZOO --out conditions.json
        [--generator FOLDER] [--tasks 60] [--samples 8]

One adapter a task and condition, except `best of N by 2 examples`, where two examples choose among
N samples from the text. Shown examples are pairs that the zoo's adapter was trained on; tests are
pairs that nothing was trained on.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tqdm import tqdm  # type: ignore[import-untyped]

from lora_gen.adapter.adapter import Adapter
from lora_gen.evaluation.bench import RANK, STACK, Bench, bench_parser, open_bench, scores
from lora_gen.evaluation.choice import best_by_examples
from lora_gen.evaluation.statistics import mean_interval, share_of_gain
from lora_gen.evaluation.tasks import EvaluationTask, evaluation_tasks
from lora_gen.files import atomic_write_text

CHOSEN_BY = 2


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What a request shows of a task."""

    text: bool = False
    other_text: bool = False
    """The description of another task instead."""
    examples: int = 0
    prompts: int = 0
    samples: int = 1
    """More than one: chosen by `CHOSEN_BY` examples."""


def conditions(samples: int) -> dict[str, Shown]:
    """Name -> what is shown."""
    return {
        "text": Shown(text=True),
        "another task's text": Shown(other_text=True),
        "2 examples": Shown(examples=2),
        "8 examples": Shown(examples=8),
        "prompts": Shown(prompts=4),
        "text + 2 examples": Shown(text=True, examples=2),
        "text + 8 examples": Shown(text=True, examples=8),
        "text + prompts": Shown(text=True, prompts=4),
        f"text, best of {samples} by 2 examples": Shown(text=True, samples=samples),
        f"text + 8 examples, best of {samples} by 2": Shown(text=True, examples=8, samples=samples),
    }


def made_for(
    bench: Bench, task: EvaluationTask, shown: Shown, *, other: EvaluationTask, seed: int
) -> Adapter:
    """The adapter of one request."""
    rng = random.Random(f"{task.name}/{seed}")
    shots = rng.sample(task.shots, min(len(task.shots), 16))
    source = other if shown.other_text else task
    has_text = shown.text or shown.other_text
    output = bench.pipe(
        source.descriptions[seed % len(source.descriptions)] if has_text else None,
        prompts=[text for text, _ in shots[8 : 8 + shown.prompts]] or None,
        examples=shots[: shown.examples] or None,
        base=bench.spec,
        rank=RANK,
        num_adapters=shown.samples,
        generator=torch.Generator().manual_seed(seed),
    )
    if shown.samples == 1:
        return output.adapters[0]
    order = best_by_examples(bench.model, bench.chat, output.adapters, shots[:CHOSEN_BY])
    return output.adapters[order[0]]


def measure(
    bench: Bench, tasks: Sequence[EvaluationTask], wanted: Mapping[str, Shown], *, label: str
) -> dict[str, list[float]]:
    """Exact match of every task under every condition, the base and the oracle."""
    found: dict[str, list[float]] = {name: [] for name in ("base", *wanted, "oracle LoRA")}
    for start in tqdm(range(0, len(tasks), STACK), desc=label, leave=False):
        part = tasks[start : start + STACK]
        others = [tasks[(start + i + 1) % len(tasks)] for i in range(len(part))]
        found["base"] += scores(bench, part, None)
        found["oracle LoRA"] += scores(bench, part, [bench.zoo.load(t.entry_id) for t in part])
        for name, shown in wanted.items():
            adapters = [
                made_for(bench, task, shown, other=other, seed=start + i)
                for i, (task, other) in enumerate(zip(part, others, strict=True))
            ]
            found[name] += scores(bench, part, adapters)
    return found


def summary(found: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Mean exact match and share of the oracle's gain of each condition, with 95% intervals."""
    base, oracle = found["base"], found["oracle LoRA"]
    return {
        name: {
            "exact_match": mean_interval(values).to_dict(),
            "share_of_gain": share_of_gain(values, base, oracle).to_dict(),
        }
        for name, values in found.items()
    }


def main() -> None:
    """Measure every condition on every split, and write a report."""
    parser = bench_parser(__doc__, tasks=60)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--splits", nargs="*", help="default: all")
    args = parser.parse_args()
    with open_bench(args.zoo, args.generator, args.base, inputs=args.inputs) as bench:
        splits = evaluation_tasks(bench.zoo, limit=args.tasks)
        report = {"tasks": args.tasks, "inputs": args.inputs, "splits": {}}
        for split, tasks in splits.items():
            if args.splits is None or split in args.splits:
                found = measure(bench, tasks, conditions(args.samples), label=split)
                report["splits"][split] = summary(found)
                for name, one in report["splits"][split].items():
                    print(f"{split:20} {name:40} {one['exact_match']['value']:.3f}", flush=True)
    atomic_write_text(args.out, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
