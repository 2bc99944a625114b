"""Do jumps to nowcast weights save steps? Runs of unseen tasks with and without them.

Nowcasts are fitted on runs of seen tasks, all from one start. Then runs of held-out tasks train
plainly and with jumps, from that start, with the same lines and learning rates; the loss is on
inputs that none trains on. A jump's steps are saved only if nothing cheaper does the same: beside
the jumps stand averages of a run's own weights, a plain run whose learning rate falls within two
thirds of the steps, and one that draws other lines, which says what chance does. A jump that is
tried first costs its forward passes.

python -m recipes.tiny_lm.weight_space.nowcast
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from lora_gen.weight_space.nowcast_runs import NowcastOfRuns, fit_nowcast_runs
from recipes.tiny_lm.weight_space.bench import HELD_OUT, Bench, Task, save

TRAIN, SHOWN, STEPS, SHORT = 64, 16, 45, 30
STACK, START = 32, 500
SPACING, AHEAD, DIFFERENCES = 3, 3, 3
LAST_JUMP, EARLY, TESTS, TRIED = 30, 15, 8, 4
LATE = (12, 24, 36)
"""Steps of the plain run whose loss is to be reached."""
TRIAL = len(SHARES) * TRIED / (3 * FitConfig.batch)
"""Optimizer steps that trying a jump costs: a step is a forward and twice as much backward."""
DRAWN = 1000

Copied = Mapping[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a run trains, and which of its weights are measured."""

    mover: Mover | NowcastOfRuns | None = None
    """What it jumps by."""
    until: int = LAST_JUMP
    """Last step at which it may jump."""
    tried: bool = False
    """Whether a jump goes only as far as the loss on examples that it trains on falls."""
    decay: float = 0.0
    """Of the exponential average of its weights, which is measured in place of the last ones."""
    lookahead: float = 0.0
    """Share of the way from the slow weights to the fast ones, every `SPACING` steps (Lookahead,
    1907.08610); 0 for none."""
    steps: int = STEPS
    draws: int = 0
    """Seed of the lines that it trains on."""

    @property
    def jumps(self) -> range:
        """Steps at which it jumps."""
        if self.mover is None:
            return range(0)
        if isinstance(self.mover, NowcastOfRuns):
            return range(self.mover.spacing, self.mover.spacing + 1)
        every = SPACING * (self.mover.history - 1)
        return range(every, self.until + 1, every)

    def cost(self, checkpoint: int) -> float:
        """Optimizer steps up to a checkpoint, with those that trying jumps is worth."""
        step = SPACING * checkpoint
        return step + (TRIAL * sum(one <= step for one in self.jumps) if self.tried else 0)


def train(
    bench: Bench, tasks: Sequence[Task], way: Way, *, measured: bool = True
) -> tuple[list[Copied], list[list[float]]]:
    """(factors at every checkpoint, test loss of each task at every checkpoint) of one stack."""
    kept: list[Copied] = []
    losses: list[list[float]] = [[] for _ in tasks]
    average: dict[str, tuple[Tensor, Tensor]] = {}

    def observe(step: int, factors: StackedFactors) -> None:
        if way.decay:
            average.update(_copied(factors) if not step else _toward(average, factors, way.decay))
        if step % SPACING:
            return
        if way.lookahead and step:
            _place(factors, kept[-1], _copied(factors), [way.lookahead] * len(tasks))
        kept.append(_copied(factors))
        if step in way.jumps:
            start, goal = kept[-1], _goal(way.mover, kept)
            _place(factors, start, goal, [1.0] * len(tasks))
            if way.tried:
                _place(factors, start, goal, _best_shares(bench, tasks, factors, start, goal))
            kept[-1] = _copied(factors)
        if not measured:
            return
        values = losses_on(bench, [t.tests[:TESTS] for t in tasks], average or factors)
        for found, value in zip(losses, values, strict=True):
            found.append(value)

    fit_stack(
        bench.model,
        bench.chat,
        stack_adapters([fresh_adapter(bench.spec, rank=4, seed=START)] * len(tasks)),
        [task.entry.examples for task in tasks],
        FitConfig(steps=way.steps, seed=way.draws),
        on_step=observe,
        autocast=True,
    )
    return kept, losses


def _toward(
    average: Copied, factors: StackedFactors, decay: float
) -> dict[str, tuple[Tensor, Tensor]]:
    return {
        name: (average[name][0].lerp(a, 1 - decay), average[name][1].lerp(b, 1 - decay))
        for name, (a, b) in factors.items()
    }


def _copied(factors: StackedFactors) -> Copied:
    return {name: (a.clone(), b.clone()) for name, (a, b) in factors.items()}


def _goal(mover: Mover | NowcastOfRuns | None, kept: Sequence[Copied]) -> Copied:
    """Where every adapter of the stack jumps to, each by its own history."""
    assert mover is not None
    if isinstance(mover, NowcastOfRuns):
        count = len(next(iter(kept[0].values()))[0])
        return stack_adapters([mover.predict(run) for run in runs([kept[0], kept[-1]], count)])
    recent = kept[-mover.history :]

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


def steps_to(losses: Sequence[float], goal: float, way: Way) -> float:
    """Optimizer steps until the loss is at the goal, between checkpoints by a line.

    A run that never gets there counts with all steps of the plain one: it saved none.
    """
    for i, value in enumerate(losses):
        if value <= goal:
            if not i or losses[i - 1] == value:
                return way.cost(i)
            part = (losses[i - 1] - goal) / (losses[i - 1] - value)
            return way.cost(i - 1) + part * (way.cost(i) - way.cost(i - 1))
    return float(max(STEPS, way.cost(len(losses) - 1)))


def ways(bench: Bench) -> tuple[dict[str, Way], Nowcast]:
    """All ways to go on, learned ones fitted on runs of seen tasks, the plain one first."""
    seen, known = bench.tasks(("seen",), TRAIN), []
    for start in range(0, TRAIN, STACK):
        part = seen[start : start + STACK]
        known += runs(train(bench, part, Way(), measured=False)[0], len(part))
    size = {"spacing": SPACING, "ahead": AHEAD, "differences": DIFFERENCES}
    learned = fit_nowcast(known[:STACK], **size)
    network = fit_nowcast_net(known[:STACK], **size)
    first, second = (fit_nowcast_runs(known, spacing=SPACING, at=at) for at in (1, 2))
    print("relative error of a run left out:", first.left_out, second.left_out, flush=True)
    of = {"differences": DIFFERENCES, "spacing": SPACING, "horizon": SPACING * AHEAD}
    found = {
        "plain": Way(),
        "plain, other lines": Way(draws=1),
        f"of like runs, at step {first.spacing}, tried": Way(mover=first, tried=True),
        f"of like runs, at step {second.spacing}, tried": Way(mover=second, tried=True),
        "nowcast, linear, tried": Way(mover=learned, tried=True),
        f"nowcast, linear, tried to step {EARLY}": Way(mover=learned, tried=True, until=EARLY),
        "average of weights": Way(decay=0.7),
        "last difference": Way(mover=Nowcast.averaged(decay=0.0, **of)),
        "exponential average": Way(mover=Nowcast.averaged(decay=0.5, **of)),
        "nowcast, linear": Way(mover=learned),
        "nowcast, network": Way(mover=network),
        f"plain in {SHORT} steps": Way(steps=SHORT),
        "Lookahead": Way(lookahead=0.5),
    }
    return found, learned


def measure(bench: Bench) -> dict[str, Any]:
    """Loss by step, and the share of steps saved to the plain run's loss."""
    tried, learned = ways(bench)
    held = bench.tasks(HELD_OUT, SHOWN)
    found: dict[str, list[list[float]]] = {}
    report: dict[str, Any] = {
        "tasks": len(held),
        "runs_learned_from": TRAIN,
        "spacing": SPACING,
        "horizon": SPACING * AHEAD,
        "weights_a": learned.lora_a,
        "weights_b": learned.lora_b,
        "mean_loss": {},
        "saved": {},
    }
    for name, way in tried.items():
        found[name] = train(bench, held, way)[1]
        curve = [round(math.exp(value), 4) for value in _curve(found[name], range(len(held)))]
        report["mean_loss"][name] = curve
        print(name, curve, flush=True)
        if name != "plain":
            both = found["plain"], found[name]
            report["saved"][name] = {str(late): _saved(*both, way, late) for late in LATE}
        save("nowcast", report)
    return report


def _curve(losses: Sequence[Sequence[float]], chosen: Sequence[int]) -> list[float]:
    """Mean over tasks of the logarithm of the loss, at each checkpoint."""
    columns = zip(*(losses[i] for i in chosen), strict=True)
    return [sum(math.log(max(x, 1e-6)) for x in column) / len(chosen) for column in columns]


def _saved(
    plain: list[list[float]], rows: list[list[float]], way: Way, late: int
) -> dict[str, float]:
    """Share of the plain run's steps to the mean loss at `late`, bootstrapped over tasks."""

    def share(chosen: Sequence[int]) -> float:
        before = _curve(plain, chosen)
        goal = min(before[: late // SPACING + 1])
        return 1 - steps_to(_curve(rows, chosen), goal, way) / steps_to(before, goal, Way())

    rng, everyone = random.Random(0), range(len(plain))
    drawn = sorted(share(rng.choices(everyone, k=len(plain))) for _ in range(DRAWN))
    ends = {"low": drawn[int(0.025 * DRAWN)], "high": drawn[int(0.975 * DRAWN)]}
    return {k: round(v, 4) for k, v in {"value": share(everyone), **ends}.items()}


if __name__ == "__main__":
    print(measure(Bench())["saved"])
