"""Do students find their teachers? New trainings of held-out tasks among the zoo's adapters.

A student is trained on its teacher's answers from a start of its own, on the teacher's inputs, in
another order. It is then looked for among other held-out adapters, by what adapters write and by
the cosine of delta weights. A claim is a nearest adapter that stands out by `AKIN` deviations.

python -m recipes.tiny_lm.weight_space.kinship
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lora_gen.adapter.adapter import Adapter, LoraPair
from lora_gen.adapter.algebra import cross_gram, norm
from lora_gen.adapter.stacked import stack_adapters
from lora_gen.evaluation.fitting import FitConfig, fit_stack, fresh_adapter
from lora_gen.weight_space.kinship import AKIN, kinships
from recipes.tiny_lm.weight_space.bench import HELD_OUT, Bench, interval, save

STUDENTS, OTHERS = 12, 48
FIT = FitConfig(steps=36, seed=77)


def measure(bench: Bench) -> dict[str, Any]:
    """How often the teacher is nearest, and claimed; and how often others are claimed."""
    tasks = bench.tasks(HELD_OUT, STUDENTS + OTHERS, 11)
    taught = tasks[:STUDENTS]
    starts = [fresh_adapter(bench.spec, rank=4, seed=5000 + i) for i in range(STUDENTS)]
    data = [task.entry.examples for task in taught]
    factors = fit_stack(bench.model, bench.chat, stack_adapters(starts), data, FIT, autocast=True)
    students = [
        Adapter(
            pairs={n: LoraPair(lora_a=a[i], lora_b=b[i]) for n, (a, b) in factors.items()},
            base="tiny_lm",
        )
        for i in range(STUDENTS)
    ]
    scores = bench.scores(students, [task.tests for task in taught])
    zoo = [task.adapter for task in tasks]
    lengths = torch.tensor([norm(adapter) for adapter in zoo], dtype=torch.float64)
    found = {
        "what they write": kinships(students, zoo),
        "cosine of deltas": cross_gram(students, zoo) / lengths,
    }
    report: dict[str, Any] = {
        "students": STUDENTS,
        "adapters": len(zoo),
        "students' exact match": interval(scores),
        "measures": {name: _judged(table) for name, table in found.items()},
    }
    print(report, flush=True)
    save("kinship", report)
    return report


def _judged(table: Tensor) -> dict[str, Any]:
    """Of each student: is its teacher nearest, is it claimed, and without it, is another?"""
    first, claimed, wrong = [], [], []
    for i, row in enumerate(table):
        others = torch.cat([row[:i], row[i + 1 :]])
        middle = others.median()
        spread = 1.4826 * (others - middle).abs().median().clamp_min(1e-9)
        own, best = float((row[i] - middle) / spread), float((others.max() - middle) / spread)
        first.append(float(own > best))
        claimed.append(float(own > max(best, AKIN)))
        wrong.append(float(best > AKIN))
    return {"first": interval(first), "found": interval(claimed), "false": interval(wrong)}


if __name__ == "__main__":
    measure(Bench())
