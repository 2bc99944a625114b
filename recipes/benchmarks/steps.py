"""What each number of sampler steps keeps of the accuracy on tiny_lm, and what training costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from lora_gen.assets import asset_path, default_generator
from lora_gen.evaluation.bench import STACK, Bench, generate_for, open_bench, scores
from lora_gen.evaluation.fitting import FitConfig, fresh_adapter
from lora_gen.evaluation.refine import refine
from lora_gen.evaluation.tasks import EvaluationTask, evaluation_tasks

SPLIT = "unseen_composition"
_RANK = 4


def by_steps(steps: Sequence[int], tasks: int, trained: int) -> Callable[[], dict[str, Any]]:
    """Exact match on unseen tasks from text alone, each number of steps from the same noise.

    Args:
        steps: Numbers of sampler steps.
        tasks: Unseen tasks at most.
        trained: Tasks whose LoRA is trained too, for its seconds.
    """

    def work() -> dict[str, Any]:
        zoo, generator = asset_path("tiny_lm", "zoo"), default_generator()
        with open_bench(zoo, generator, "tiny_lm", inputs=16) as bench:
            chosen = evaluation_tasks(bench.zoo, limit=tasks)[SPLIT]
            generate_for(bench, chosen[:1], 0)  # loads the text encoder
            return {
                "tasks": len(chosen),
                "found": {count: _measure(bench, chosen, count) for count in steps},
                "training_cpu_seconds": _training_seconds(bench, chosen[:trained]),
            }

    return work


def _measure(bench: Bench, tasks: Sequence[EvaluationTask], steps: int) -> dict[str, Any]:
    found: list[float] = []
    seconds = 0.0
    for start in range(0, len(tasks), STACK):
        part = tasks[start : start + STACK]
        began = time.process_time()
        adapters = generate_for(bench, part, 0, steps=steps)
        seconds += time.process_time() - began
        found += scores(bench, part, adapters)
    return {"scores": found, "cpu_seconds": round(seconds / len(tasks), 4)}


def _training_seconds(bench: Bench, tasks: Sequence[EvaluationTask]) -> float:
    """CPU seconds of one LoRA of the same rank, at the steps that the zoo's were trained with."""
    began = time.process_time()
    for seed, task in enumerate(tasks):
        start = fresh_adapter(bench.spec, rank=_RANK, seed=seed)
        refine(start, list(task.shots), base="tiny_lm", config=FitConfig(seed=seed))
    return round((time.process_time() - began) / len(tasks), 3)
