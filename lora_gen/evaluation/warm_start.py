"""How many steps and examples each start saves: generated, fresh, mean and nearest adapters.

python -m lora_gen.evaluation.warm_start --zoo ZOO --generator FOLDER --out warm_start.json

All starts of a task are fine-tuned in one stack on the same examples in the same order.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.algebra import truncate
from lora_gen.adapter.stacked import StackedFactors, stack_adapters
from lora_gen.evaluation.baselines.registry import Sources
from lora_gen.evaluation.behavior import exact_matches
from lora_gen.evaluation.bench import RANK, Bench, generate_for, open_bench, scores, sources
from lora_gen.evaluation.fitting import FitConfig, fit_stack, fresh_adapter
from lora_gen.evaluation.statistics import mean_interval
from lora_gen.evaluation.tasks import EvaluationTask, evaluation_tasks
from lora_gen.files import atomic_write_json

STARTS = ("generated", "fresh", "mean", "nearest")
EXAMPLES = (4, 16, 64)
CHECKPOINTS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Steps at which accuracy is measured."""
TARGET = 0.95
"""Share of the oracle's accuracy to reach."""
_TASKS = 8  # of one stack: with four starts each, 32 adapters at once

Curve = list[list[float]]
"""Accuracy: a row for each task, a column for each checkpoint."""


def warm_start(
    *,
    zoo: str | Path,
    generator: str | Path,
    base: str = "tiny_lm",
    split: str = "unseen_composition",
    tasks: int = 24,
    seeds: int = 1,
    rates: Sequence[float] = (3e-3, 1e-2),
) -> dict[str, Any]:
    """Steps to 95% of the oracle for every start, number of examples and learning rate.

    A start's best learning rate is reported for each number of examples, so that none is
    handicapped by another's. "Steps" is the first checkpoint where the mean accuracy over tasks is
    at the target, with a 95% bootstrap interval over tasks; None where it never is.

    Args:
        zoo: Zoo with oracle adapters, examples and tests.
        generator: Folder or hub id.
        base: The base.
        split: Whose tasks are trained.
        tasks: How many at most.
        seeds: Each has its own examples, noise and fresh adapters; curves are their mean.
        rates: Learning rates that are tried.
    """
    with open_bench(zoo, generator, base, inputs=16) as bench:
        chosen = evaluation_tasks(bench.zoo, limit=tasks)[split]
        oracle = []
        for start in range(0, len(chosen), _TASKS):
            part = chosen[start : start + _TASKS]
            oracle += scores(bench, part, [bench.zoo.load(task.entry_id) for task in part])
        learn_from = sources(bench)
        curves = {
            (count, rate): _curves(bench, learn_from, chosen, count, rate=rate, seeds=seeds)
            for count in EXAMPLES
            for rate in rates
        }
    found = {
        start: {
            str(count): _best([(rate, curves[count, rate][start]) for rate in rates], oracle)
            for count in EXAMPLES
        }
        for start in STARTS
    }
    return {
        "split": split,
        "tasks": [task.name for task in chosen],
        "seeds": seeds,
        "target": TARGET,
        "oracle": mean_interval(oracle).to_dict(),
        "checkpoints": list(CHECKPOINTS),
        "starts": found,
        "examples_to_target": {start: _fewest(found[start]) for start in STARTS},
    }


def steps_to_target(curve: Curve, oracle: Sequence[float]) -> dict[str, float | None]:
    """First checkpoint whose mean accuracy is at the target, with its interval over tasks."""
    curve_NS, oracle_N = np.asarray(curve), np.asarray(oracle)
    drawn_BN = np.random.default_rng(0).integers(len(oracle_N), size=(2000, len(oracle_N)))
    first = _first(curve_NS.mean(0)[None], oracle_N.mean(keepdims=True))
    draws_B = np.sort(_first(curve_NS[drawn_BN].mean(1), oracle_N[drawn_BN].mean(1)))
    # Infinite where the target is never reached, so percentiles are read and not interpolated.
    low, high = (draws_B[round(share * (len(draws_B) - 1))] for share in (0.025, 0.975))
    return {"value": _or_none(first[0]), "low": _or_none(low), "high": _or_none(high)}


def _first(means_BS: NDArray[np.float64], oracle_B: NDArray[np.float64]) -> NDArray[np.float64]:
    """Steps of the first column at the target, infinite where there is none."""
    hit_BS = means_BS >= TARGET * oracle_B[:, None]
    steps_B = np.asarray(CHECKPOINTS, dtype=np.float64)[hit_BS.argmax(1)]
    return np.where(hit_BS.any(1), steps_B, np.inf)


def _or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _best(runs: Sequence[tuple[float, Curve]], oracle: Sequence[float]) -> dict[str, Any]:
    """The learning rate that reaches the target first, else the one that ends best."""
    records = []
    for rate, curve in runs:
        means = np.asarray(curve).mean(0)
        records.append(
            {
                "lr": rate,
                "steps": steps_to_target(curve, oracle),
                "start": mean_interval([row[0] for row in curve]).to_dict(),
                "end": mean_interval([row[-1] for row in curve]).to_dict(),
                "curve": [round(float(mean), 4) for mean in means],
            }
        )
    return min(records, key=_order)


def _order(record: Mapping[str, Any]) -> tuple[float, float]:
    steps = record["steps"]["value"]
    return (math.inf if steps is None else steps, -record["end"]["value"])


def _fewest(records: Mapping[str, Mapping[str, Any]]) -> int | None:
    """The least number of examples with which the target was reached."""
    reached = [int(count) for count, r in records.items() if r["steps"]["value"] is not None]
    return min(reached, default=None)


def _curves(
    bench: Bench,
    learn_from: Sources,
    tasks: Sequence[EvaluationTask],
    count: int,
    *,
    rate: float,
    seeds: int,
) -> dict[str, Curve]:
    """Accuracy over the steps for each start, mean over seeds."""
    runs: dict[str, list[Curve]] = {start: [] for start in STARTS}
    for seed in range(seeds):
        config = FitConfig(steps=CHECKPOINTS[-1], lr=rate, seed=seed)
        found: dict[str, Curve] = {start: [] for start in STARTS}
        for first in range(0, len(tasks), _TASKS):
            part = tasks[first : first + _TASKS]
            for start, rows in _stack(bench, learn_from, part, count, config=config).items():
                found[start] += rows
        for start, curve in found.items():
            runs[start].append(curve)
    return {start: np.mean(curves, axis=0).tolist() for start, curves in runs.items()}


def _stack(
    bench: Bench,
    learn_from: Sources,
    tasks: Sequence[EvaluationTask],
    count: int,
    *,
    config: FitConfig,
) -> dict[str, Curve]:
    """Accuracy over the steps of a few tasks, every start of each on the same examples."""
    starts = _starts(bench, learn_from, tasks, config.seed)
    data = [_examples(task, count, config.seed) for task in tasks]
    rows: list[list[float]] = []

    def measure(step: int, factors: StackedFactors) -> None:
        if step in CHECKPOINTS:
            rows.append(_accuracies(bench, tasks, factors))

    stack = stack_adapters([adapter for name in STARTS for adapter in starts[name]])
    data = data * len(STARTS)
    fit_stack(bench.model, bench.chat, stack, data, config, on_step=measure, autocast=True)
    curves = np.asarray(rows).T.tolist()
    size = len(tasks)
    return {name: curves[i * size : (i + 1) * size] for i, name in enumerate(STARTS)}


def _examples(task: EvaluationTask, count: int, seed: int) -> list[tuple[str, str]]:
    return random.Random(f"{seed}/{task.name}").sample(task.shots, min(count, len(task.shots)))


def _starts(
    bench: Bench, learn_from: Sources, tasks: Sequence[EvaluationTask], seed: int
) -> dict[str, list[Adapter]]:
    """The adapters that fine-tuning starts from, one a task."""
    return {
        "generated": generate_for(bench, tasks, seed),
        "fresh": [
            fresh_adapter(bench.spec, rank=RANK, seed=1000 * seed + i) for i in range(len(tasks))
        ],
        "mean": [truncate(learn_from.mean, RANK)] * len(tasks),
        "nearest": learn_from.near([task.descriptions[0] for task in tasks]),
    }


def _accuracies(
    bench: Bench, tasks: Sequence[EvaluationTask], factors: StackedFactors
) -> list[float]:
    """Exact match of every adapter of the stack on its task's tests."""
    pairs = [task.tests[i % len(task.tests)] for task in tasks for i in range(bench.inputs)] * len(
        STARTS
    )
    lines = bench.chat.pack([bench.chat.line(*pair) for pair in pairs])
    right = exact_matches(bench.model, lines, factors)
    return [float(row) for row in right.view(-1, bench.inputs).float().mean(1)]


def to_markdown(report: Mapping[str, Any]) -> str:
    """Starts down, numbers of examples across: steps to the target and the accuracy before any."""
    head = ["start", "before", *(f"steps at K = {count}" for count in EXAMPLES), "examples needed"]
    rows = [head, ["---"] * len(head)]
    for start, records in report["starts"].items():
        cells = [_steps(records[str(count)]["steps"]) for count in EXAMPLES]
        before = f"{records[str(EXAMPLES[0])]['start']['value']:.2f}"
        needed = report["examples_to_target"][start]
        rows.append([start, before, *cells, str(needed) if needed else f"> {EXAMPLES[-1]}"])
    note = (
        f"Optimizer steps to {report['target']:.0%} of the oracle's "
        f"{report['oracle']['value']:.2f} on {len(report['tasks'])} tasks of split "
        f"{report['split'].replace('_', ' ')}; 95% "
        f"bootstrap intervals over tasks, {report['seeds']} seeds, best of the learning rates."
    )
    return "\n".join(["| " + " | ".join(row) + " |" for row in rows] + ["", note, ""])


def _steps(interval: Mapping[str, float | None]) -> str:
    never = f"> {CHECKPOINTS[-1]}"
    value, low, high = (
        never if interval[key] is None else f"{interval[key]:.0f}"
        for key in ("value", "low", "high")
    )
    return f"{value} [{low}, {high}]"


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--zoo", required=True)
    parser.add_argument("--generator", required=True)
    parser.add_argument("--base", default="tiny_lm")
    parser.add_argument("--split", default="unseen_composition")
    parser.add_argument("--tasks", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rates", type=float, nargs="+", default=[3e-3, 1e-2])
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    report = warm_start(
        zoo=args.zoo,
        generator=args.generator,
        base=args.base,
        split=args.split,
        tasks=args.tasks,
        seeds=args.seeds,
        rates=args.rates,
    )
    atomic_write_json(Path(args.out), report)
    print(to_markdown(report))


if __name__ == "__main__":
    main()
