"""Does the gauge of an adapter matter for further training? Refining it from several gauges.

Adapters that the generator makes for tasks with unseen arguments, which it half knows, are refined
on 16 examples. The delta weights at the start are the same; only A and B share them differently.
Exact match after each number of steps, and steps to 95% of the trained adapters.

python -m recipes.tiny_lm.weight_space.balance
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from lora_gen.adapter.adapter import Adapter, LoraPair
from lora_gen.adapter.stacked import StackedFactors, stack_adapters
from lora_gen.assets import default_generator
from lora_gen.codec.canonical import canonicalize
from lora_gen.evaluation.fitting import FitConfig, fit_stack
from lora_gen.pipeline import LoraGenPipeline
from recipes.tiny_lm.weight_space.bench import Bench, interval, save

TASKS, EXAMPLES, STEPS = 8, 16, 16
AT = (0, 2, 4, 8, 16)
RATES = (3e-3, 1e-2)


def _scaled(adapter: Adapter, factor: float) -> Adapter:
    return _each(adapter, lambda p: replace(p, lora_a=factor * p.lora_a, lora_b=p.lora_b / factor))


def _as_trained(adapter: Adapter) -> Adapter:
    """A as large as PEFT starts it (rows of about 1/sqrt(3)), B carries the rest."""

    def pair(p: LoraPair) -> LoraPair:
        size = p.lora_a.norm(dim=1, keepdim=True).clamp_min(1e-12) * 3**0.5
        return replace(p, lora_a=p.lora_a / size, lora_b=p.lora_b * size[:, 0])

    return _each(adapter, pair)


def _each(adapter: Adapter, change: Callable[[LoraPair], LoraPair]) -> Adapter:
    return replace(adapter, pairs={n: change(p.folded()) for n, p in adapter.pairs.items()})


GAUGES: dict[str, Callable[[Adapter], Adapter]] = {
    "as generated": lambda adapter: adapter,
    "balanced": canonicalize,
    "A eight times as large": lambda adapter: _scaled(canonicalize(adapter), 8.0),
    "B eight times as large": lambda adapter: _scaled(canonicalize(adapter), 1 / 8),
    "A as large as PEFT starts it": lambda adapter: _as_trained(canonicalize(adapter)),
}


def curves(
    bench: Bench, starts: Sequence[Adapter], tasks: Sequence[Any], rate: float
) -> list[list[float]]:
    """Exact match of each start at each of `AT`, all trained in one stack on the same examples."""
    rows: list[list[float]] = []

    def observe(step: int, factors: StackedFactors) -> None:
        if step in AT:
            found = [
                Adapter(
                    pairs={n: LoraPair(lora_a=a[i], lora_b=b[i]) for n, (a, b) in factors.items()},
                    base="tiny_lm",
                )
                for i in range(len(starts))
            ]
            rows.append(bench.scores(found, [task.tests for task in tasks]))

    data = [task.entry.examples[:EXAMPLES] for task in tasks]
    config = FitConfig(steps=STEPS, lr=rate)
    fit_stack(
        bench.model,
        bench.chat,
        stack_adapters(starts),
        data,
        config,
        on_step=observe,
        autocast=True,
    )
    return [list(column) for column in zip(*rows, strict=True)]


def measure(bench: Bench) -> dict[str, Any]:
    """Exact match by gauge, learning rate and steps."""
    pipe = LoraGenPipeline.from_pretrained(default_generator())
    tasks = bench.tasks(("unseen_argument",), TASKS, 5)
    made = []
    for i, task in enumerate(tasks):
        noise = torch.Generator().manual_seed(i)
        text = task.entry.descriptions[0]
        made.append(pipe(text, base=bench.spec, generator=noise).adapters[0])
    report: dict[str, Any] = {"tasks": len(tasks), "examples": EXAMPLES, "steps": AT, "rows": {}}
    for rate in RATES:
        starts = [gauge(adapter) for gauge in GAUGES.values() for adapter in made]
        found = curves(bench, starts, list(tasks) * len(GAUGES), rate)
        for i, name in enumerate(GAUGES):
            mine = found[i * len(tasks) : (i + 1) * len(tasks)]
            report["rows"][f"{name}, rate {rate:g}"] = [
                interval([row[k] for row in mine]) for k in range(len(AT))
            ]
            means = [round(sum(row[k] for row in mine) / len(mine), 3) for k in range(len(AT))]
            print(name, rate, means, flush=True)
    save("balance", report)
    return report


if __name__ == "__main__":
    measure(Bench())
