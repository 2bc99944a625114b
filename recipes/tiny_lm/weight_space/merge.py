"""Merges of 2, 4 and 8 tasks: every method, PEFT's, the mean, and one LoRA trained on all tasks.

The tasks of a group have inputs of different kinds (an email address, a date …), so an input tells
which is meant. Strength and density of every method are chosen on groups of seen tasks; what is
reported are groups of held-out tasks, with intervals over groups.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from typing import Any

from lora_gen.adapter.adapter import Adapter, LoraPair
from lora_gen.adapter.algebra import cosine, scale
from lora_gen.adapter.stacked import stack_adapters
from lora_gen.evaluation.fitting import FitConfig, fit_stack, fresh_adapter
from lora_gen.evaluation.module_inputs import module_inputs
from lora_gen.weight_space.merge import MergeMethod, merge_adapters
from lora_gen.weight_space.regression import merge_on_inputs
from recipes.tiny_lm.weight_space.bench import HELD_OUT, Bench, Task, interval, load, save
from recipes.tiny_lm.weight_space.peft_merges import peft_merges

SIZES = {4: (4, 8), 2: (6, 12), 8: (2, 6)}
"""Tasks of a group -> groups to choose on, groups to report."""
STRENGTHS = (0.3, 0.5, 0.75, 1.0, 1.5)
DENSITIES: dict[MergeMethod, tuple[float, ...]] = {
    "ties": (0.2, 0.5),
    "dare": (0.5,),
    "dare_ties": (0.5,),
    "knots": (0.2, 1.0),
}
PLAIN: tuple[MergeMethod, ...] = ("linear", "tsv", "isotropic", "geodesic")
_TRAINED = 24  # examples of each task that the regression merge reads
MULTI_STEPS = 30  # of a task: a group of four trains four times as long as one

Group = Sequence[Task]


def groups(tasks: Sequence[Task], size: int, count: int, seed: int) -> list[Group]:
    """Groups of tasks of different kinds; a task is in one group only while there are enough."""
    rng = random.Random(seed)
    found: list[Group] = []
    left = list(tasks)
    for _ in range(count):
        rng.shuffle(left)
        chosen: dict[str, Task] = {}
        for task in left:
            if len(chosen) < size and task.kind != "text":
                chosen.setdefault(task.kind, task)
        if len(chosen) < size:
            left = list(tasks)
            continue
        found.append(list(chosen.values()))
        left = [task for task in left if task not in chosen.values()]
    return found


def merges(bench: Bench, group: Group) -> dict[str, Adapter]:
    """Every method's adapter at weight 1, at the sum of the ranks."""
    adapters = [task.adapter for task in group]
    ones = [1.0] * len(adapters)
    found: dict[str, Adapter] = {
        method: merge_adapters(adapters, ones, method=method).adapter for method in PLAIN
    }
    for method, densities in DENSITIES.items():
        for density in densities:
            name = f"{method} {density:g}"
            merged = merge_adapters(adapters, ones, method=method, density=density)
            found[name] = merged.adapter
    read = []
    for task in group:
        lines = bench.chat.pack([bench.chat.line(*p) for p in task.entry.examples[:_TRAINED]])
        read.append(module_inputs(bench.model, lines, stack_adapters([task.adapter]), limit=128))
    for rank in {len(adapters) * 4, 4}:
        name = "regression" if rank > 4 else "regression, rank 4"
        found[name] = merge_on_inputs(adapters, read, rank=rank).adapter
    found["linear, rank 4"] = merge_adapters(adapters, ones, rank=4).adapter
    return found | peft_merges(bench.model, adapters)


def multi_task(bench: Bench, found: Sequence[Group]) -> list[Adapter]:
    """One LoRA a group, trained on the examples of all its tasks, at the sum of the ranks."""
    size = len(found[0])
    data = [[pair for task in group for pair in task.entry.examples] for group in found]
    starts = [fresh_adapter(bench.spec, rank=4 * size, seed=i) for i in range(len(found))]
    config = FitConfig(steps=MULTI_STEPS * size)
    factors = fit_stack(
        bench.model, bench.chat, stack_adapters(starts), data, config, autocast=True
    )
    return [
        Adapter(
            pairs={n: LoraPair(lora_a=a[i], lora_b=b[i]) for n, (a, b) in factors.items()},
            base="tiny_lm",
        )
        for i in range(len(found))
    ]


def score(bench: Bench, adapters: Sequence[Adapter], found: Sequence[Group]) -> list[float]:
    """Mean exact match of each group's adapter over its tasks."""
    size = len(found[0])
    tests = [[pair for t in g for pair in t.tests[: bench.inputs]] for g in found]
    return bench.scores(adapters, tests, inputs=size * bench.inputs)


def measure(bench: Bench, sizes: Sequence[int] = tuple(SIZES)) -> dict[str, Any]:
    """Choose on seen tasks, report on held-out ones; what is known of other sizes is kept."""
    seen = bench.tasks(("seen",), 100)
    held = bench.tasks(HELD_OUT, 150)
    report = load("merge") or {"inputs": bench.inputs, "sizes": {}}
    for size in sizes:
        choose, show = SIZES[size]
        bench.inputs = 5
        practice = groups(seen, size, choose, 1)
        best = _choices(bench, practice)
        bench.inputs = 12
        shown = groups(held, size, show, 2)
        rows = _report(bench, shown, best)
        report["sizes"][str(size)] = {
            "groups": len(shown),
            "mean_cosine": _mean_cosine(shown),
            "chosen": {name: strength for name, (strength, _) in best.items()},
            "exact_match": {name: interval(values) for name, values in rows.items()},
            "values": rows,
        }
        save("merge", report)
    return report


def _choices(bench: Bench, practice: Sequence[Group]) -> dict[str, tuple[float, float]]:
    """Method -> the strength that did best on the practice groups, and its score."""
    made = [merges(bench, group) for group in practice]
    best = {}
    for name in made[0]:
        tried = []
        for strength in (1.0,) if name.startswith("regression") else STRENGTHS:
            scaled = [scale(one[name], strength) for one in made]
            values = score(bench, scaled, practice)
            tried.append((sum(values) / len(values), strength))
        value, strength = max(tried)
        best[name] = (strength, value)
        print(f"{name}: strength {strength}, {value:.3f}", flush=True)
    return best


def _report(
    bench: Bench, shown: Sequence[Group], best: dict[str, tuple[float, float]]
) -> dict[str, list[float]]:
    made = [merges(bench, group) for group in shown]
    rows: dict[str, list[float]] = {}
    for name in made[0]:
        rows[name] = score(bench, [scale(one[name], best[name][0]) for one in made], shown)
    mean = [scale(one["linear"], 1 / len(shown[0])) for one in made]
    rows["mean"] = score(bench, mean, shown)
    rows["multi-task LoRA"] = score(bench, multi_task(bench, shown), shown)
    own = [task for group in shown for task in group]
    values = bench.scores([task.adapter for task in own], [task.tests for task in own])
    size = len(shown[0])
    rows["own adapters"] = [sum(values[i : i + size]) / size for i in range(0, len(values), size)]
    for name, found in rows.items():
        print(f"{size} tasks, {name}: {sum(found) / len(found):.3f}", flush=True)
    return rows


def _mean_cosine(shown: Sequence[Group]) -> float:
    found = [
        cosine(a.adapter, b.adapter) for g in shown for i, a in enumerate(g) for b in g[i + 1 :]
    ]
    return round(sum(found) / len(found), 4)


if __name__ == "__main__":
    measure(Bench(), [int(size) for size in sys.argv[1:]] or tuple(SIZES))
