"""Regret of a proposed rank and targets against trying every option, on held-out tasks.

Every option of every task is trained (one stack for all) and tested. Within a budget of parameters,
the regret of a way to choose is the best option's exact match minus that of the chosen one. "Best
on seen tasks" tries everything on other tasks first and then always takes what was best there.

python -m recipes.tiny_lm.weight_space.choose
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from lora_gen.adapter.adapter import Adapter, LoraPair
from lora_gen.adapter.stacked import stack_adapters
from lora_gen.assets import default_generator
from lora_gen.evaluation.baselines.nearest import NearestText
from lora_gen.evaluation.fitting import FitConfig, fit_stack, fresh_adapter
from lora_gen.pipeline import LoraGenPipeline
from lora_gen.weight_space.choose import Option, options_within, ranked_options
from recipes.tiny_lm.weight_space.bench import HELD_OUT, Bench, Task, interval, save

BUDGETS = (4_096, 8_192, 16_384, 32_768)
RANKS = (1, 2, 4)
TARGETS = ("all-linear", "attention", "mlp", ("q_proj", "v_proj"))
SHOWN, SEEN, NEIGHBORS, CANDIDATES = 8, 3, 8, 2
FIT = FitConfig(steps=24)

Table = list[dict[str, float]]
"""Task -> option -> exact match."""


def trained(bench: Bench, tasks: Sequence[Task], options: Sequence[Option]) -> Table:
    """Every task under every option, all trained at once."""
    starts = []
    for i, _ in enumerate(tasks):
        for option in options:
            whole = fresh_adapter(bench.spec, rank=option.rank, seed=i)
            pairs = {name: whole.pairs[name] for name in option.modules}
            starts.append(replace(whole, pairs=pairs))
    data = [task.entry.examples for task in tasks for _ in options]
    factors = fit_stack(bench.model, bench.chat, stack_adapters(starts), data, FIT, autocast=True)
    adapters = [
        Adapter(
            pairs={n: LoraPair(lora_a=a[i], lora_b=b[i]) for n, (a, b) in factors.items()},
            base="tiny_lm",
        )
        for i in range(len(starts))
    ]
    values = bench.scores(adapters, [task.tests for task in tasks for _ in options])
    size = len(options)
    return [
        {o.name: v for o, v in zip(options, values[i : i + size], strict=True)}
        for i in range(0, len(values), size)
    ]


def measure(bench: Bench) -> dict[str, Any]:
    """Regret of each way to choose, by budget."""
    options = options_within(bench.spec, max(BUDGETS), ranks=RANKS, targets=TARGETS)
    print(len(options), "options", flush=True)
    shown = bench.tasks(HELD_OUT, SHOWN, 7)
    before = _mean(trained(bench, bench.tasks(("seen",), SEEN, 7), options))
    print("seen", before, flush=True)
    found = trained(bench, shown, options)
    print("held out", _mean(found), flush=True)
    pipe = LoraGenPipeline.from_pretrained(default_generator())
    ids = sorted(bench.zoo.ids(split="seen"))
    nearest = NearestText(bench.zoo, ids, pipe.encoder, wordings=1)
    rows: dict[str, dict[str, list[float]]] = {}
    picked: dict[str, dict[str, list[str]]] = {}
    for budget in BUDGETS:
        within = [option for option in options if option.parameters <= budget]
        for task, table in zip(shown, found, strict=True):
            chosen = _chosen(bench, pipe, nearest, task, within)
            chosen["most parameters"] = max(within, key=lambda o: (o.parameters, o.rank)).name
            chosen["best on seen tasks"] = max((o.name for o in within), key=before.__getitem__)
            best = max(table[option.name] for option in within)
            for way, name in chosen.items():
                rows.setdefault(way, {}).setdefault(str(budget), []).append(best - table[name])
                picked.setdefault(way, {}).setdefault(str(budget), []).append(name)
            mean = sum(table[option.name] for option in within) / len(within)
            rows.setdefault("any option", {}).setdefault(str(budget), []).append(best - mean)
    report = {
        "tasks": len(shown),
        "steps": FIT.steps,
        "options": {o.name: o.parameters for o in options},
        "mean_exact_match": {name: round(v, 4) for name, v in _mean(found).items()},
        "regret": {w: {b: interval(v) for b, v in found.items()} for w, found in rows.items()},
        "picked": {w: {b: sorted(set(v)) for b, v in found.items()} for w, found in picked.items()},
    }
    save("choose", report)
    return report


def _chosen(
    bench: Bench,
    pipe: LoraGenPipeline,
    nearest: NearestText,
    task: Task,
    within: Sequence[Option],
) -> dict[str, str]:
    """Way -> the option it proposes."""
    text = task.entry.descriptions[0]
    near = [bench.zoo.load(i) for i, _ in nearest.neighbors([text], NEIGHBORS)[0]]
    noise = torch.Generator().manual_seed(0)
    made = pipe(text, base=bench.spec, num_adapters=CANDIDATES, generator=noise).adapters
    any_seen = random.Random(0).sample(nearest.owners, 8)
    return {
        "choose: neighbors and generated": ranked_options(within, [*near, *made])[0].option.name,
        "neighbors alone": ranked_options(within, near)[0].option.name,
        "generated alone": ranked_options(within, made)[0].option.name,
        "any seen adapters": ranked_options(within, [bench.zoo.load(i) for i in any_seen])[
            0
        ].option.name,
    }


def _mean(table: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: sum(row[name] for row in table) / len(table) for name in table[0]}


if __name__ == "__main__":
    print(measure(Bench())["regret"])
