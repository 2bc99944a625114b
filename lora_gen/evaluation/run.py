"""Measure a generator on every split beside its base, the oracle adapters and the baselines."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.progress import track

from lora_gen.evaluation.baselines.registry import ALL, DEFAULT, Baseline, build_baselines
from lora_gen.evaluation.bench import (
    STACK,
    Bench,
    few_shot,
    generate_for,
    open_bench,
    scores,
    sources,
)
from lora_gen.evaluation.report import BASE, GENERATED, ORACLE, write_report
from lora_gen.evaluation.tasks import EvaluationTask, evaluation_tasks

FEW_SHOT = 4
FEW_SHOTS = (2, 4, 8)
"""Numbers of shots that are measured where all baselines are."""


def evaluate(
    *,
    zoo: str | Path,
    generator: str | Path,
    base: str = "tiny_lm",
    out: str | Path,
    tasks: int | None = None,
    seeds: int = 3,
    inputs: int = 16,
    baselines: Sequence[str] = DEFAULT,
) -> dict[str, Any]:
    """Write report.json and report.md, and return the report.

    Scores are exact match for each task over `inputs` test pairs; intervals are 95% bootstrap over
    tasks. A generated adapter's score is the mean over `seeds` noise seeds, each with another
    wording: no seed is picked.

    Args:
        zoo: Zoo with oracle adapters and test pairs.
        generator: Folder or hub id.
        base: The base.
        out: Folder for the report.
        tasks: Tasks a split at most; None takes all.
        seeds: Noise seeds.
        inputs: Test pairs a task.
        baselines: Names in `baselines.registry.ALL`, or `("all",)`, which measures the base with
            2 and 8 shots too.
    """
    started = time.time()
    with open_bench(zoo, generator, base, inputs=inputs) as bench:
        splits = evaluation_tasks(bench.zoo, limit=tasks)
        is_all = tuple(baselines) == ("all",)
        ways = build_baselines(ALL if is_all else baselines, sources(bench))
        shots = FEW_SHOTS if is_all else (FEW_SHOT,)
        runs = {
            split: measure(bench, found, ways, shots=shots, seeds=seeds, label=split)
            for split, found in splits.items()
        }
        costs = costs_of(bench, ways, [seconds for _, seconds in runs.values()])
    report = {
        "base": base,
        "generator": str(Path(generator).name),
        "few_shot": FEW_SHOT,
        "seeds": seeds,
        "inputs": inputs,
        "seconds": round(time.time() - started),
        "tasks": {split: [task.name for task in found] for split, found in splits.items()},
        "scores": {split: found for split, (found, _) in runs.items()},
        "costs": costs,
    }
    return write_report(report, Path(out))


def measure(
    bench: Bench,
    tasks: Sequence[EvaluationTask],
    baselines: Sequence[Baseline],
    *,
    shots: Sequence[int],
    seeds: int,
    label: str,
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """The scores of every method, and the seconds an adapter of those that make some.

    Args:
        bench: Base, zoo and the generator that is evaluated.
        tasks: What is asked.
        baselines: Ways to adapters beside the generator.
        shots: Numbers of examples that the base alone is shown.
        seeds: Adapters of the generator whose scores are averaged.
        label: Shown while it runs.
    """
    stacks = [tasks[i : i + STACK] for i in range(0, len(tasks), STACK)]
    texts = [task.descriptions[0] for task in tasks]
    found: dict[str, list[float]] = {BASE: [], **{f"base {k}-shot": [] for k in shots}}
    for part in track(stacks, description=f"{label}: base"):
        found[BASE] += scores(bench, part, None)
        for count in shots:
            found[f"base {count}-shot"] += few_shot(bench, part, count)
    seconds = {}
    for way in track(baselines, description=f"{label}: baselines"):
        started = time.perf_counter()
        adapters = way.adapters(texts, 0)
        seconds[way.name] = (time.perf_counter() - started) / len(tasks)
        found[way.name] = [
            score
            for i, part in enumerate(stacks)
            for score in scores(bench, part, adapters[i * STACK :][: len(part)], told=way.told)
        ]
    found |= {GENERATED: [], ORACLE: []}
    seconds[GENERATED] = 0.0
    for part in track(stacks, description=f"{label}: generated"):
        started = time.perf_counter()
        generated = [generate_for(bench, part, seed) for seed in range(seeds)]
        seconds[GENERATED] += (time.perf_counter() - started) / len(tasks) / seeds
        runs = [scores(bench, part, adapters) for adapters in generated]
        found[GENERATED] += [sum(values) / len(values) for values in zip(*runs, strict=True)]
        found[ORACLE] += scores(bench, part, [bench.zoo.load(task.entry_id) for task in part])
    return found, seconds


def costs_of(
    bench: Bench, baselines: Sequence[Baseline], seconds: Sequence[dict[str, float]]
) -> dict[str, dict[str, float]]:
    """Values kept and seconds an adapter; the least over splits, since the first one also fits."""
    sizes = {way.name: way.parameters for way in baselines}
    sizes[GENERATED] = sum(p.numel() for p in bench.pipe.denoiser.parameters())
    return {
        name: {"parameters": size, "seconds": round(min(split[name] for split in seconds), 5)}
        for name, size in sizes.items()
    }
