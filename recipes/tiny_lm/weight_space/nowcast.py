"""Does a jump to nowcast weights save steps? Runs of unseen tasks with and without one.

The nowcast is fitted on runs of seen tasks. Then runs of held-out tasks train plainly, with a jump
by the last difference, and with a jump by the nowcast, all with the same lines and learning rates;
the loss is on inputs that none trains on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lora_gen.adapter.adapter import Adapter, LoraPair
from lora_gen.adapter.stacked import StackedFactors, stack_adapters, stacked_adapters
from lora_gen.conditioning.chat import IGNORE
from lora_gen.evaluation.fitting import FitConfig, fit_stack, fresh_adapter
from lora_gen.weight_space.nowcast import Nowcast, fit_nowcast
from recipes.tiny_lm.weight_space.bench import HELD_OUT, Bench, Task, interval, save

TRAIN, SHOWN, STEPS, SPACING, AHEAD = 16, 24, 45, 3, 3
JUMP_AT, TESTS = 15, 8

Copied = Mapping[str, tuple[Tensor, Tensor]]


def train(
    bench: Bench, tasks: Sequence[Task], nowcast: Nowcast | None, seed: int
) -> tuple[list[Copied], list[list[float]]]:
    """(factors at every checkpoint, test loss of each task at every checkpoint) of one stack."""
    kept: list[Copied] = []
    losses: list[list[float]] = [[] for _ in tasks]

    def observe(step: int, factors: StackedFactors) -> None:
        if step % SPACING:
            return
        kept.append({name: (a.clone(), b.clone()) for name, (a, b) in factors.items()})
        if nowcast is not None and step == JUMP_AT:
            recent = kept[-nowcast.history :]
            for name, pair in factors.items():
                for number, side in enumerate(("lora_a", "lora_b")):
                    pair[number].copy_(nowcast.moved([one[name][number] for one in recent], side))
        for found, value in zip(losses, test_losses(bench, tasks, factors), strict=True):
            found.append(value)

    starts = [fresh_adapter(bench.spec, rank=4, seed=seed + i) for i in range(len(tasks))]
    data = [task.entry.examples for task in tasks]
    config = FitConfig(steps=STEPS)
    fit_stack(
        bench.model,
        bench.chat,
        stack_adapters(starts),
        data,
        config,
        on_step=observe,
        autocast=True,
    )
    return kept, losses


@torch.no_grad()
def test_losses(bench: Bench, tasks: Sequence[Task], factors: StackedFactors) -> list[float]:
    """Cross entropy a token of the right answers, for each task."""
    lines = bench.chat.pack([bench.chat.line(*pair) for t in tasks for pair in t.tests[:TESTS]])
    with stacked_adapters(bench.model, factors), torch.autocast("cpu", torch.bfloat16):
        logits = bench.model(input_ids=lines.input_ids, use_cache=False).logits
    labels = lines.labels[:, 1:]
    loss = torch.nn.functional.cross_entropy(
        logits[:, :-1].float().flatten(0, 1),
        labels.flatten(),
        reduction="none",
        ignore_index=IGNORE,
    ).view(len(tasks), -1)
    counted = (labels != IGNORE).view(len(tasks), -1).sum(1)
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
    """Optimizer steps until the loss is at the goal, between checkpoints by a line."""
    for i, value in enumerate(losses):
        if value <= goal:
            before = losses[i - 1] if i else value
            part = 1.0 if before == value else (before - goal) / (before - value)
            return SPACING * (max(i - 1, 0) + part) if i else 0.0
    return float(STEPS)


def measure(bench: Bench) -> dict[str, Any]:
    """Loss by step, and the share of steps saved to the loss of the plain run at its end."""
    seen, held = bench.tasks(("seen",), TRAIN), bench.tasks(HELD_OUT, SHOWN)
    kept, _ = train(bench, seen, None, 500)
    learned = fit_nowcast(runs(kept, len(seen)), spacing=SPACING, ahead=AHEAD)
    ways: dict[str, Nowcast | None] = {
        "plain": None,
        "last difference": Nowcast.extrapolation(spacing=SPACING, horizon=SPACING * AHEAD),
        "nowcast": learned,
    }
    found = {name: train(bench, held, way, 900)[1] for name, way in ways.items()}
    report: dict[str, Any] = {
        "tasks": len(held),
        "weights_a": learned.lora_a,
        "weights_b": learned.lora_b,
        "mean_loss": {
            name: [round(sum(column) / len(column), 4) for column in zip(*rows, strict=True)]
            for name, rows in found.items()
        },
        "saved": {},
    }
    for late in (24, 36, 45):
        goals = [row[late // SPACING] for row in found["plain"]]
        for name in ("last difference", "nowcast"):
            saved = [
                1 - steps_to(row, goal) / steps_to(plain, goal)
                for row, plain, goal in zip(found[name], found["plain"], goals, strict=True)
                if steps_to(plain, goal) > 0
            ]
            report["saved"][f"{name}, to the plain loss at step {late}"] = interval(saved)
    save("nowcast", report)
    return report


if __name__ == "__main__":
    print(measure(Bench()))
