"""Measure a generator on every split beside its base, the oracle adapters and the baselines."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from torch import nn

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.base_model import BaseModelSpec
from lora_gen.adapter.stacked import stack_adapters
from lora_gen.evaluation.baselines import NearestText, mean_adapter
from lora_gen.evaluation.behavior import exact_matches, load_causal_lm
from lora_gen.evaluation.chat import Chat
from lora_gen.evaluation.report import write_report
from lora_gen.evaluation.tasks import EvaluationTask, evaluation_tasks
from lora_gen.pipeline import LoraGenPipeline
from lora_gen.zoo.store import Zoo

FEW_SHOT = 4
RANK = 4
_STACK = 16


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What every measurement needs."""

    model: nn.Module
    chat: Chat
    spec: BaseModelSpec
    zoo: Zoo
    pipe: LoraGenPipeline
    inputs: int
    """Test inputs for each task."""


def evaluate(
    *,
    zoo: str | Path,
    generator: str | Path,
    base: str = "tiny_lm",
    out: str | Path,
    tasks: int | None = None,
    seeds: int = 3,
    inputs: int = 16,
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
    """
    started = time.time()
    model, chat = load_causal_lm(base)
    with Zoo.open(zoo, read_only=True) as opened:
        bench = Bench(
            model=model,
            chat=chat,
            spec=BaseModelSpec.from_config(base),
            zoo=opened,
            pipe=LoraGenPipeline.from_pretrained(generator),
            inputs=inputs,
        )
        splits = evaluation_tasks(opened, limit=tasks)
        scores = {split: {} for split in splits}  # type: dict[str, dict[str, list[float]]]
        nearest, mean = _baselines(bench)
        for split, found in splits.items():
            for start in track(range(0, len(found), _STACK), description=split):
                part = found[start : start + _STACK]
                for method, values in _measure(bench, part, nearest, mean, seeds).items():
                    scores[split].setdefault(method, []).extend(values)
    report = {
        "base": base,
        "generator": str(Path(generator).name),
        "few_shot": FEW_SHOT,
        "seeds": seeds,
        "inputs": inputs,
        "seconds": round(time.time() - started),
        "tasks": {split: [task.name for task in found] for split, found in splits.items()},
        "scores": scores,
    }
    return write_report(report, Path(out))


def _baselines(bench: Bench) -> tuple[NearestText, Adapter]:
    ids = sorted(bench.zoo.ids(split="seen"))
    mean = mean_adapter(bench.zoo, ids, rank=RANK)
    return NearestText(bench.zoo, ids, bench.pipe.encoder), mean


def _measure(
    bench: Bench, tasks: Sequence[EvaluationTask], nearest: NearestText, mean: Adapter, seeds: int
) -> dict[str, list[float]]:
    """Scores of every method on a few tasks."""
    near = [bench.zoo.load(i) for i in nearest.ids_of([task.descriptions[0] for task in tasks])]
    oracles = [bench.zoo.load(task.entry_id) for task in tasks]
    runs = [_scores(bench, tasks, generate_for(bench, tasks, seed)) for seed in range(seeds)]
    return {
        "base zero-shot": _scores(bench, tasks, None),
        f"base {FEW_SHOT}-shot": _few_shot(bench, tasks),
        "mean LoRA": _scores(bench, tasks, [mean] * len(tasks)),
        "nearest text": _scores(bench, tasks, near),
        "generated": [sum(values) / len(values) for values in zip(*runs, strict=True)],
        "oracle LoRA": _scores(bench, tasks, oracles),
    }


@torch.no_grad()
def generate_for(bench: Bench, tasks: Sequence[EvaluationTask], seed: int) -> list[Adapter]:
    """One adapter for each task from text alone; the seed draws the noise and the wording."""
    adapters = []
    for i, task in enumerate(tasks):
        text = task.descriptions[seed % len(task.descriptions)]
        noise = torch.Generator().manual_seed(1_000 * seed + i)
        adapters += bench.pipe(text, base=bench.spec, rank=RANK, generator=noise).adapters
    return adapters


def _scores(
    bench: Bench, tasks: Sequence[EvaluationTask], adapters: Sequence[Adapter] | None
) -> list[float]:
    lines = [bench.chat.line(*pair) for task in tasks for pair in _tests(bench, task)]
    factors = None if adapters is None else stack_adapters(adapters)
    hits = exact_matches(bench.model, bench.chat.pack(lines), factors)
    return [float(row) for row in hits.view(len(tasks), -1).float().mean(1)]


def _few_shot(bench: Bench, tasks: Sequence[EvaluationTask]) -> list[float]:
    scores = []
    for task in tasks:
        rng = random.Random(task.name)
        lines = []
        for text, answer in _tests(bench, task):
            question = bench.chat.question(text, rng.sample(task.shots, FEW_SHOT))
            ids, start = bench.chat.line(text, answer)
            lines.append((question + ids[start:], len(question)))
        scores.append(float(exact_matches(bench.model, bench.chat.pack(lines)).float().mean()))
    return scores


def _tests(bench: Bench, task: EvaluationTask) -> list[tuple[str, str]]:
    """Exactly `inputs` pairs, so that a stack is rectangular; few inputs are repeated."""
    return [task.tests[i % len(task.tests)] for i in range(bench.inputs)]
