"""Do jumps to nowcast weights save steps? Runs of unseen tasks with and without them.

Nowcasts are fitted on runs of seen tasks. Then runs of held-out tasks train plainly and with jumps,
all with the same lines and learning rates; the loss is on inputs that none trains on. A jump's
steps are saved only if nothing cheaper does the same: beside the jumps stands a plain run whose
learning rate falls within two thirds of the steps.

python -m recipes.tiny_lm.weight_space.nowcast
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lora_gen.adapter.adapter import Adapter, LoraPair
from lora_gen.adapter.stacked import StackedFactors, stack_adapters, stacked_adapters
from lora_gen.conditioning.chat import IGNORE
from lora_gen.evaluation.fitting import FitConfig, Pairs, fit_stack, fresh_adapter
from lora_gen.evaluation.nowcast_callback import SHARES
from lora_gen.weight_space.nowcast import SIDES, Mover, Nowcast, fit_nowcast
from lora_gen.weight_space.nowcast_net import fit_nowcast_net
from recipes.tiny_lm.weight_space.bench import HELD_OUT, Bench, Task, interval, save

TRAIN, SHOWN, STEPS, SHORT = 16, 16, 45, 30
SPACING, AHEAD, DIFFERENCES = 3, 3, 3
LAST_JUMP, TESTS, TRIED = 30, 8, 4
LATE = (24, 36, 45)
"""Steps of the plain run whose loss is to be reached."""

Copied = Mapping[str, tuple[Tensor, Tensor]]


def train(
    bench: Bench,
    tasks: Sequence[Task],
    mover: Mover | None,
    *,
    seed: int,
    steps: int = STEPS,
    tried: bool = False,
) -> tuple[list[Copied], list[list[float]]]:
    """(factors at every checkpoint, test loss of each task at every checkpoint) of one stack."""
    kept: list[Copied] = []
    losses: list[list[float]] = [[] for _ in tasks]
    recent: list[Copied] = []

    def observe(step: int, factors: StackedFactors) -> None:
        if step % SPACING:
            return
        kept.append(_copied(factors))
        recent.append(kept[-1])
        if mover is not None and len(recent) >= mover.history and step <= LAST_JUMP:
            start, goal = _copied(factors), _goal(mover, recent[-mover.history :])
            _place(factors, start, goal, [1.0] * len(tasks))
            if tried:
                _place(factors, start, goal, _best_shares(bench, tasks, factors, start, goal))
            recent[:] = [_copied(factors)]
        measured = losses_on(bench, [task.tests[:TESTS] for task in tasks], factors)
        for found, value in zip(losses, measured, strict=True):
            found.append(value)

    starts = [fresh_adapter(bench.spec, rank=4, seed=seed + i) for i in range(len(tasks))]
    fit_stack(
        bench.model,
        bench.chat,
        stack_adapters(starts),
        [task.entry.examples for task in tasks],
        FitConfig(steps=steps),
        on_step=observe,
        autocast=True,
    )
    return kept, losses


def _copied(factors: StackedFactors) -> Copied:
    return {name: (a.clone(), b.clone()) for name, (a, b) in factors.items()}


def _goal(mover: Mover, recent: Sequence[Copied]) -> Copied:
    """Where every adapter of the stack jumps to, each by its own history."""

    def moved(name: str, number: int) -> Tensor:
        histories = zip(*(one[name][number] for one in recent), strict=True)
        side = SIDES[number]
        return torch.stack([mover.moved(history, side) for history in histories])

    return {name: (moved(name, 0), moved(name, 1)) for name in recent[-1]}


def _place(factors: StackedFactors, start: Copied, goal: Copied, shares: Sequence[float]) -> None:
    """Set every adapter to its share of the way, in place."""
    share_B11 = torch.tensor(shares)[:, None, None]
    for name, pair in factors.items():
        for number in (0, 1):
            pair[number].copy_(torch.lerp(start[name][number], goal[name][number], share_B11))


def _best_shares(
    bench: Bench, tasks: Sequence[Task], factors: StackedFactors, start: Copied, goal: Copied
) -> list[float]:
    """For each task the share of the jump with the lowest loss on examples that it trains on."""
    rows = []
    for share in SHARES:
        _place(factors, start, goal, [share] * len(tasks))
        rows.append(losses_on(bench, [t.entry.examples[:TRIED] for t in tasks], factors))
    return [SHARES[int(torch.tensor(column).argmin())] for column in zip(*rows, strict=True)]


@torch.no_grad()
def losses_on(bench: Bench, rows: Sequence[Pairs], factors: StackedFactors) -> list[float]:
    """Cross entropy a token of the right answers, for each task on its own pairs."""
    lines = bench.chat.pack([bench.chat.line(*pair) for pairs in rows for pair in pairs])
    with stacked_adapters(bench.model, factors), torch.autocast("cpu", torch.bfloat16):
        logits = bench.model(input_ids=lines.input_ids, use_cache=False).logits
    labels = lines.labels[:, 1:]
    loss = torch.nn.functional.cross_entropy(
        logits[:, :-1].float().flatten(0, 1),
        labels.flatten(),
        reduction="none",
        ignore_index=IGNORE,
    ).view(len(rows), -1)
    counted = (labels != IGNORE).view(len(rows), -1).sum(1)
    return [float(value) for value in loss.sum(1) / counted]


def runs(kept: Sequence[Copied], count: int) -> list[list[Adapter]]:
    """The checkpoints of each task as adapters."""
    return [
        [
            Adapter(
                pairs={n: LoraPair(lora_a=a[i], lora_b=b[i]) for n, (a, b) in one.items()},
                base="tiny_lm",
            )
            for one in kept
        ]
        for i in range(count)
    ]


def steps_to(losses: Sequence[float], goal: float) -> float:
    """Optimizer steps until the loss is at the goal, between checkpoints by a line.

    A run that never gets there counts with all steps of the plain one: it saved none.
    """
    for i, value in enumerate(losses):
        if value <= goal:
            before = losses[i - 1] if i else value
            part = 1.0 if before == value else (before - goal) / (before - value)
            return SPACING * (max(i - 1, 0) + part) if i else 0.0
    return float(STEPS)


def movers(bench: Bench) -> tuple[dict[str, Mover | None], Nowcast]:
    """The ways to go on, learned ones fitted on runs of seen tasks."""
    seen = bench.tasks(("seen",), TRAIN)
    kept, _ = train(bench, seen, None, seed=500)
    known = runs(kept, len(seen))
    size = {"spacing": SPACING, "ahead": AHEAD, "differences": DIFFERENCES}
    learned = fit_nowcast(known, **size)
    horizon = SPACING * AHEAD
    ways: dict[str, Mover | None] = {
        "plain": None,
        "last difference": Nowcast.averaged(
            decay=0.0, differences=DIFFERENCES, spacing=SPACING, horizon=horizon
        ),
        "exponential average": Nowcast.averaged(
            decay=0.5, differences=DIFFERENCES, spacing=SPACING, horizon=horizon
        ),
        "nowcast, linear": learned,
        "nowcast, network": fit_nowcast_net(known, **size),
    }
    return ways, learned


def measure(bench: Bench) -> dict[str, Any]:
    """Loss by step, and the share of steps saved to the plain run's loss."""
    ways, learned = movers(bench)
    held = bench.tasks(HELD_OUT, SHOWN)
    found = {}
    for name, way in ways.items():
        found[name] = train(bench, held, way, seed=900)[1]
        print(name, [round(sum(c) / len(c), 3) for c in zip(*found[name], strict=True)], flush=True)
    short = f"plain in {SHORT} steps"
    found[short] = train(bench, held, None, seed=900, steps=SHORT)[1]
    best = f"nowcast, linear, in {SHORT} steps"
    found[best] = train(bench, held, learned, seed=900, steps=SHORT)[1]
    report: dict[str, Any] = {
        "tasks": len(held),
        "spacing": SPACING,
        "horizon": SPACING * AHEAD,
        "weights_a": learned.lora_a,
        "weights_b": learned.lora_b,
        "mean_loss": {
            name: [round(sum(column) / len(column), 4) for column in zip(*rows, strict=True)]
            for name, rows in found.items()
        },
        "saved": {},
    }
    for name in found:
        if name != "plain":
            report["saved"][name] = {str(late): _saved(found, name, late) for late in LATE}
    save("nowcast", report)
    return report


def _saved(found: Mapping[str, list[list[float]]], name: str, late: int) -> dict[str, float]:
    """Share of the plain run's steps to its own loss at `late`, over tasks."""
    shares = []
    for row, plain in zip(found[name], found["plain"], strict=True):
        goal = plain[late // SPACING]
        shares.append(1 - steps_to(row, goal) / max(steps_to(plain, goal), 1e-9))
    return interval(shares)


if __name__ == "__main__":
    print(measure(Bench())["saved"])
