"""Planted lineages: copies, truncations, quantized ones, merges and checkpoints, found again.

Runs are trained here, a few steps each; everything else is made from held-out adapters of the zoo.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import torch

from lora_gen.adapter.adapter import Adapter, LoraPair
from lora_gen.adapter.algebra import scale, truncate
from lora_gen.adapter.stacked import StackedFactors, stack_adapters
from lora_gen.evaluation.fitting import FitConfig, fit_stack, fresh_adapter
from lora_gen.evaluation.statistics import proportion_interval
from lora_gen.weight_space.lineage import Relation, lineage
from lora_gen.weight_space.merge import merge_adapters
from lora_gen.weight_space.quantize import quantize_adapter
from lora_gen.weight_space.tree import tree_rows, tree_svg
from recipes.tiny_lm.weight_space import REPORTS
from recipes.tiny_lm.weight_space.bench import HELD_OUT, Bench, Task, save

ALONE, EACH, RUNS = 40, 8, 4
SEED = 1  # thresholds were set on seed 0
CHECKPOINTS = (15, 30, 45)

Truth = dict[str, tuple[str, frozenset[str]]]
"""Child -> kind and parents."""


def plant(bench: Bench) -> tuple[dict[str, Adapter], Truth]:
    """Adapters in random order, and what was made from what."""
    tasks = bench.tasks(HELD_OUT, ALONE, SEED)
    adapters = {task.entry.task: task.adapter for task in tasks}
    names, truth = list(adapters), Truth()
    rng, source = random.Random(SEED), torch.Generator().manual_seed(SEED)
    for i in range(EACH):
        parents = rng.sample(names, 8)
        made = {
            "copy": (parents[:1], _regauged(adapters[parents[0]], source)),
            "scaled": (parents[1:2], scale(adapters[parents[1]], rng.uniform(0.3, 0.8))),
            "truncated": (parents[2:3], truncate(adapters[parents[2]], rng.choice((1, 2, 3)))),
            "variant": (parents[3:4], quantize_adapter(adapters[parents[3]], bits=4).dequantized()),
            "merged": (parents[4:6], _merged(adapters, parents[4:6], rng, None)),
            "merged, rank 4": (parents[6:8], _merged(adapters, parents[6:8], rng, 4)),
        }
        for kind, (found, adapter) in made.items():
            name = f"{kind} {i}"
            adapters[name] = adapter
            truth[name] = (kind.split(",")[0], frozenset(found))
    for name, adapter, parent in checkpoints(bench, bench.tasks(("seen",), RUNS, SEED)):
        adapters[name] = adapter
        if parent is not None:
            truth[name] = ("checkpoint", frozenset({parent}))
    # Originals first: of two equal adapters the earlier one is taken for the original.
    return adapters, truth


def checkpoints(bench: Bench, tasks: list[Task]) -> list[tuple[str, Adapter, str | None]]:
    """(name, adapter, the step before) for runs that are trained here."""
    found: dict[int, StackedFactors] = {}

    def keep(step: int, factors: StackedFactors) -> None:
        if step in CHECKPOINTS:
            found[step] = {name: (a.clone(), b.clone()) for name, (a, b) in factors.items()}

    starts = [fresh_adapter(bench.spec, rank=4, seed=100 * SEED + i) for i in range(len(tasks))]
    fit_stack(
        bench.model,
        bench.chat,
        stack_adapters(starts),
        [task.entry.examples for task in tasks],
        FitConfig(steps=max(CHECKPOINTS)),
        on_step=keep,
        autocast=True,
    )
    made: list[tuple[str, Adapter, str | None]] = []
    for i in range(len(tasks)):
        before: str | None = None
        for step in CHECKPOINTS:
            pairs = {n: LoraPair(lora_a=a[i], lora_b=b[i]) for n, (a, b) in found[step].items()}
            name = f"run {i} step {step}"
            made.append((name, Adapter(pairs=pairs, base="tiny_lm"), before))
            before = name
    return made


def measure(bench: Bench) -> dict[str, Any]:
    """Precision and recall of relations, and of their kinds."""
    adapters, truth = plant(bench)
    relations = lineage(adapters)
    said = {relation.child: relation for relation in relations}
    right = [name for name, planted in truth.items() if _is(said.get(name), planted)]
    kinds = sorted({kind for kind, _ in truth.values()})
    report: dict[str, Any] = {
        "adapters": len(adapters),
        "planted": len(truth),
        "claimed": len(relations),
        "recall": proportion_interval(len(right), len(truth)).to_dict(),
        "precision": proportion_interval(len(right), max(len(relations), 1)).to_dict(),
        "recall_by_kind": {
            kind: {
                "right": sum(truth[name][0] == kind for name in right),
                "planted": sum(planted == kind for planted, _ in truth.values()),
            }
            for kind in kinds
        },
        "mistakes": _mistakes(said, truth),
    }
    save("lineage", report)
    small = [
        name for name in adapters if name in truth or any(name in p for _, p in truth.values())
    ]
    rows = tree_rows(small, [r for r in relations if r.child in small][:24])
    (REPORTS / "tree.svg").write_text(tree_svg(rows[:40]))
    return report


def _is(relation: Relation | None, planted: tuple[str, frozenset[str]]) -> bool:
    return relation is not None and (relation.kind, frozenset(relation.parents)) == planted


def _mistakes(said: dict[str, Relation], truth: Truth) -> dict[str, int]:
    counts = Counter[str]()
    for name in said.keys() | truth.keys():
        if not _is(said.get(name), truth.get(name, ("none", frozenset()))):
            claimed = said[name].kind if name in said else "none"
            counts[f"{truth[name][0] if name in truth else 'none'} taken for {claimed}"] += 1
    return dict(counts)


def _regauged(adapter: Adapter, source: torch.Generator) -> Adapter:
    pairs = {}
    for name, pair in adapter.pairs.items():
        turn = torch.linalg.qr(torch.randn(pair.rank, pair.rank, generator=source))[0]
        a, b = (matrix.float() for matrix in pair.matrices())
        pairs[name] = pair.with_matrices(turn.mT @ a, b @ turn, scaling=pair.scaling)
    return Adapter(pairs=pairs, base=adapter.base)


def _merged(
    adapters: dict[str, Adapter], parents: list[str], rng: random.Random, rank: int | None
) -> Adapter:
    share = rng.uniform(0.35, 0.65)
    found = [adapters[name] for name in parents]
    return merge_adapters(found, [share, 1 - share], rank=rank).adapter


if __name__ == "__main__":
    print(measure(Bench()))
