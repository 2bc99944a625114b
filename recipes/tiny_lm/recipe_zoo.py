"""A zoo where recipe and task are independent: good, weak, broken, mislabeled and doubled adapters.

    python -m recipes.tiny_lm.recipe_zoo --base lora_gen/assets/tiny_lm/base
        --out build/tiny_lm/recipe_zoo --stacks 48

Every stack trains 50 tasks, drawn apart from its recipe, with one recipe, drawn apart from its
tasks: rank, steps, learning rate, modules, number of examples and share of wrong outputs. So no
recipe tells a task. To each stack are added adapters whose fault is known: `extra.fault` is
`mislabeled` (described as another task), `broken` (one module scaled out of measure), `noise`
(random factors) or `duplicate` (the same delta weights in another gauge, zero-padded). `accuracy`
is always measured on the task that the entry describes. 48 stacks give about 3,000 adapters and
take an hour or two on one core; stacks that the zoo already holds are skipped.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm  # type: ignore[import-untyped]

from lora_gen.adapter.adapter import Adapter, LoraPair
from lora_gen.adapter.base_model import select_targets
from lora_gen.adapter.profile import padded
from lora_gen.adapter.stacked import stack_adapters
from lora_gen.zoo.entry import EntryInfo
from lora_gen.zoo.store import Zoo
from recipes.tiny_lm import train_adapters
from recipes.tiny_lm.train_adapters import TRAIN_SEED, adapter_of, record
from recipes.tiny_lm.world.tasks import Task, make_splits, pairs, tasks_by_name

STACK = 50
DAMAGE = 30.0
"""Factor on the module of a `broken` adapter."""


@dataclass(frozen=True, kw_only=True)
class TrainingRecipe:
    """How all adapters of a stack are trained."""

    rank: int
    steps: int
    lr: float
    targets: str
    examples: int
    wrong: float
    """Share of examples whose output is another example's."""

    @classmethod
    def draw(cls, rng: random.Random) -> TrainingRecipe:
        """A recipe; some train far too little or far too hard."""
        return cls(
            rank=rng.choice((1, 2, 4, 8, 16)),
            steps=rng.choice((4, 12, 30, 45, 45, 80)),
            lr=rng.choice((1e-3, 3e-3, 1e-2, 1e-2, 2e-2, 6e-2)),
            targets=rng.choice(("all-linear", "all-linear", "attention", "mlp")),
            examples=rng.choice((4, 16, 96, 96)),
            wrong=rng.choice((0.0, 0.0, 0.0, 0.2, 0.6)),
        )


@dataclass(frozen=True)
class LimitedTask(Task):
    """A task of which only these examples are known."""

    known: tuple[tuple[str, str], ...] = ()

    def draw(self, rng: random.Random) -> tuple[str, str]:
        """One of the known examples."""
        return rng.choice(self.known)

    @classmethod
    def of(cls, task: Task, recipe: TrainingRecipe) -> LimitedTask:
        """What a recipe shows of a task."""
        found = pairs(task, recipe.examples, TRAIN_SEED)
        rng = random.Random(f"{task.name}/{recipe}")
        outputs = [output for _, output in found]
        known = [
            (text, rng.choice(outputs) if rng.random() < recipe.wrong else output)
            for text, output in found
        ]
        return cls(task.name, task.kind, task.steps, tuple(known))


def train_stack(
    tasks: Sequence[Task], recipe: TrainingRecipe, seed: int, worker: dict[str, Any]
) -> list[Adapter]:
    """One adapter a task, by the stacked training of `train_adapters`."""
    spec = worker["spec"]
    chosen = select_targets(spec, recipe.targets)
    narrow = replace(spec, modules={name: spec.modules[name] for name in chosen})
    args = argparse.Namespace(rank=recipe.rank, steps=recipe.steps, lr=recipe.lr, batch=4)
    worker["args"], worker["spec"] = args, narrow
    try:
        factors = train_adapters.train_stack([LimitedTask.of(t, recipe) for t in tasks], seed)
    finally:
        worker["spec"] = spec
    return [adapter_of(factors, i) for i in range(len(tasks))]


def faulty(
    adapters: Sequence[Adapter], tasks: Sequence[Task], rng: random.Random, count: int
) -> Iterator[tuple[str, Adapter, Task]]:
    """(fault, adapter, task it is described as), `count` of each fault."""
    for i in rng.sample(range(len(tasks)), count):
        yield "mislabeled", adapters[i], tasks[(i + 1 + rng.randrange(len(tasks) - 1)) % len(tasks)]
    for i in rng.sample(range(len(tasks)), count):
        name = rng.choice(sorted(adapters[i].pairs))
        pair = adapters[i].pairs[name]
        damaged = replace(pair, lora_b=pair.lora_b * DAMAGE)
        pairs_ = {**adapters[i].pairs, name: damaged}
        yield "broken", replace(adapters[i], pairs=pairs_), tasks[i]
    for i in rng.sample(range(len(tasks)), count):
        generator = torch.Generator().manual_seed(rng.randrange(2**31))
        yield "noise", _each(adapters[i], lambda p, g=generator: _noise(p, g)), tasks[i]
    for i in rng.sample(range(len(tasks)), count):
        generator = torch.Generator().manual_seed(rng.randrange(2**31))
        yield "duplicate", _each(adapters[i], lambda p, g=generator: _twin(p, g)), tasks[i]


def _each(adapter: Adapter, change: Any) -> Adapter:
    return replace(adapter, pairs={name: change(pair) for name, pair in adapter.pairs.items()})


def _noise(pair: LoraPair, generator: torch.Generator) -> LoraPair:
    """Random factors of the same size."""
    drawn = [torch.randn(x.shape, generator=generator) * x.std() for x in pair.matrices()]
    return pair.with_matrices(drawn[0], drawn[1])


def _twin(pair: LoraPair, generator: torch.Generator) -> LoraPair:
    """The same delta weight with two more ranks, in another gauge."""
    wide = padded(pair, pair.rank + 2)
    gauge = torch.linalg.qr(torch.randn(wide.rank, wide.rank, generator=generator))[0]
    a_RI, b_OR = wide.matrices()
    return wide.with_matrices(gauge.mT @ a_RI, b_OR @ gauge)


def measured(adapters: Sequence[Adapter], tasks: Sequence[Task]) -> list[float]:
    """Accuracy of each adapter on its task; ranks and modules may differ."""
    return train_adapters.accuracy(stack_adapters(adapters), tasks)


def stack_items(
    number: int, tasks: Sequence[Task], seed: int, worker: dict[str, Any]
) -> list[tuple[Adapter, EntryInfo]]:
    """Everything that stack `number` adds to the zoo."""
    rng = random.Random(f"{seed}/{number}")
    recipe = TrainingRecipe.draw(rng)
    adapters = train_stack(tasks, recipe, seed * 7919 + number, worker)
    plain = [("", adapter, task) for adapter, task in zip(adapters, tasks, strict=True)]
    faults = list(faulty(adapters, tasks, rng, max(1, len(tasks) // 16)))
    # A zoo keeps the same bytes once, so a mislabeled adapter takes the place of the labeled one.
    renamed = {id(adapter) for fault, adapter, _ in faults if fault == "mislabeled"}
    drawn = [*(one for one in plain if id(one[1]) not in renamed), *faults]
    found = [one for one in drawn if _is_finite(one[1])]
    scores = measured([adapter for _, adapter, _ in found], [task for _, _, task in found])
    split_of = {name: split for split, names in make_splits().items() for name in names}
    items = []
    for (fault, adapter, task), score in zip(found, scores, strict=True):
        known = record(task, split_of[task.name], number)
        extra = {**known.pop("extra"), "fault": fault, "stack": number, "recipe": asdict(recipe)}
        info = EntryInfo(**known, extra=extra, steps=recipe.steps, accuracy=score)
        items.append((adapter, info))
    return items


def _is_finite(adapter: Adapter) -> bool:
    factors = [factor for pair in adapter.pairs.values() for factor in pair.matrices()]
    # float16 is what the zoo keeps: a diverged adapter has no place in it
    return all(bool((factor.abs() < 6e4).all()) for factor in factors)


def main() -> None:
    """Train the stacks that are missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--stacks", type=int, default=48)
    parser.add_argument("--size", type=int, default=STACK, help="tasks in a stack")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    train_adapters._start(args)
    worker = train_adapters._WORKER
    split_of = {name: split for split, names in make_splits().items() for name in names}
    names = sorted(name for name in tasks_by_name() if name in split_of)
    with Zoo.open(args.out, create=True) as zoo:
        done = {entry.extra["stack"] for entry in zoo.entries()}
        for number in tqdm(range(args.stacks), unit="stack"):
            if number not in done:
                rng = random.Random(f"tasks/{args.seed}/{number}")
                tasks = [tasks_by_name()[name] for name in rng.sample(names, args.size)]
                zoo.add_many(stack_items(number, tasks, args.seed, worker))


if __name__ == "__main__":
    main()
