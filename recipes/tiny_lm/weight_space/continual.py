"""Five increments of new tasks for the shipped generator: what it learns and what it forgets.

An increment is the family of one primitive that the generator never saw (swap case, mask vowels …),
alone and composed with what it knows. Part of each family is trained on; the rest, unseen
compositions, is what "new tasks" are measured on. Old tasks are seen ones and unseen compositions.

python -m recipes.tiny_lm.weight_space.continual remember naive retrain

"Remember" keeps to the generator's own old answers (`task.remember` of a recipe), "naive" goes on
without, and "retrain" trains on all increments and the old tasks' labels together, as many steps.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from lora_gen.adapter.adapter import Adapter, LoraPair
from lora_gen.assets import default_generator
from recipes.tiny_lm.weight_space.bench import Bench, Task, interval, load, save
from training.behavior_data import BehaviorRecord, read_behaviors
from training.continual import Memory, RememberConfig
from training.generator_config import GeneratorTaskConfig, ObjectiveConfig
from training.generator_data import GeneratorData
from training.generator_task import GeneratorTask
from training.task import TaskContext

BEHAVIORS = "build/tiny_lm/behaviors.jsonl"
FAMILIES = ("swapcase", "mask_vowels", "pair_flag", "id_constant", "address_zip_city")
TRAINED, SHOWN, OLD = 10, 5, 16
STEPS, LR, BATCH = 16, 8e-4, 8
SHARES = (0.3, 0.5, 0.7)
"""How far from the weights before to those after all increments an averaged generator lies."""


@dataclass(frozen=True)
class Averaged:
    """How a run learns whose weights are averaged with those before afterwards."""

    lr: float = LR
    weight: float = 1.0
    """Of what is remembered."""
    rows: int = BATCH
    """Old descriptions beside the increment's own, which are `BATCH` too."""
    steps: int = STEPS


AVERAGED = {
    "averaged": Averaged(),
    "averaged, gentle": Averaged(lr=LR / 2, weight=4.0),
    "averaged, gentle and long": Averaged(lr=LR / 2, weight=4.0, rows=2 * BATCH, steps=2 * STEPS),
}
GOAL = ObjectiveConfig(
    flow_weight=0.0, lines_per_task=4, ranks=(1, 1, 2), drop_text=0.0, show_examples=0.0
)

Records = list[BehaviorRecord]


def increments() -> list[tuple[Records, Records]]:
    """(tasks to train on, tasks to measure) of each family; no task is in two."""
    left = {r.task: r for r in read_behaviors(Path(BEHAVIORS), split="unseen_primitive")}
    found = []
    for family in FAMILIES:
        mine = [r for name, r in left.items() if family in name.split("+")]
        left = {name: r for name, r in left.items() if family not in name.split("+")}
        alone = [r for r in mine if r.task == family]
        composed = [r for r in mine if r.task != family]
        random.Random(family).shuffle(composed)
        found.append((alone + composed[: TRAINED - 1], composed[TRAINED - 1 :][:SHOWN]))
    return found


def open_task() -> GeneratorTask:
    """The shipped generator as a training task."""
    config = GeneratorTaskConfig(
        base="tiny_lm",
        behaviors=BEHAVIORS,
        splits=("seen",),
        start_from=str(default_generator()),
        objective=GOAL,
    )
    task = GeneratorTask(config, TaskContext(seed=0, batch_size=BATCH, device=torch.device("cpu")))
    task.model.eval()  # without dropout until it learns
    return task


def learn(
    task: GeneratorTask, records: Records, steps: int, memory: Memory | None, lr: float = LR
) -> None:
    """Go on training on these tasks alone, at a rate that rises and falls."""
    task.memory = memory
    task.data = GeneratorData(
        records, GOAL, readers=task.data.readers, context=task.context, zoo_tokens=None
    )
    optimizer = torch.optim.AdamW(task.denoiser.parameters(), lr=lr, betas=(0.9, 0.98))
    task.model.train()
    for step in range(steps):
        rate = min(1.0, (step + 1) / 5, (steps - step) / (0.3 * steps))
        optimizer.param_groups[0]["lr"] = lr * rate
        with torch.autocast("cpu", torch.bfloat16):
            source = torch.Generator().manual_seed(step)
            loss, parts = task.loss(task.model, task.batch(step), source)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(task.denoiser.parameters(), 1.0)
        optimizer.step()
        if not step % 10:
            print(step, {name: round(float(value), 3) for name, value in parts.items()}, flush=True)
    task.model.eval()


def accuracies(bench: Bench, task: GeneratorTask, asked: Sequence[Task]) -> list[float]:
    """Exact match of adapters generated from descriptions alone."""
    found: list[float] = []
    for start in range(0, len(asked), 16):
        part = asked[start : start + 16]
        records = [_record(one) for one in part]
        with torch.no_grad():
            factors = task.generate(task.denoiser, records)
        adapters = [
            Adapter(
                pairs={n: LoraPair(lora_a=a[i], lora_b=b[i]) for n, (a, b) in factors.items()},
                base="tiny_lm",
            )
            for i in range(len(part))
        ]
        found += bench.scores(adapters, [one.tests for one in part])
    return found


def _record(task: Task) -> BehaviorRecord:
    entry = task.entry
    return BehaviorRecord(
        task=entry.task, split="", descriptions=tuple(entry.descriptions), examples=()
    )


def run(bench: Bench, way: str) -> dict[str, Any]:
    """Scores before, after each increment and at the end, for one way to go on."""
    task, parts = open_task(), increments()
    entries = {entry.task: entry for entry in bench.zoo.entries()}
    new = [[bench.task(entries[r.task]) for r in shown] for _, shown in parts]
    old = bench.tasks(("seen",), OLD, 1) + bench.tasks(("unseen_composition",), OLD, 1)
    before = accuracies(bench, task, old)
    new_before = [accuracies(bench, task, shown) for shown in new]
    history, reached = [], []
    learned: Records = []
    seen = list(task.records)
    if way == "retrain":
        families = [record for trained, _ in parts for record in trained]
        even = seen + families * (len(seen) // len(families))
        learn(task, even, STEPS * len(parts), None)
    for i, (trained, _) in enumerate(parts if way != "retrain" else []):
        print(f"{way}, increment {i + 1} of {len(parts)}: {FAMILIES[i]}", flush=True)
        learn(task, trained, STEPS, _memory(task, seen + learned) if way == "remember" else None)
        learned += trained
        history.append(round(_share(accuracies(bench, task, old), before), 4))
        reached.append(accuracies(bench, task, new[i]))
    after = accuracies(bench, task, old)
    new_after = [accuracies(bench, task, shown) for shown in new]
    half = len(old) // 2
    return {
        "old, before": interval(before),
        "old, after": interval(after),
        "old kept": _ratio(after, before),
        "seen kept": _ratio(after[:half], before[:half]),
        "compositions kept": _ratio(after[half:], before[half:]),
        "new, before": interval([*chain(*new_before)]),
        "new, right after its increment": interval([*chain(*reached)]) if reached else None,
        "new, after": interval([*chain(*new_after)]),
        "new by family": {
            family: round(sum(values) / len(values), 3)
            for family, values in zip(FAMILIES, new_after, strict=True)
        },
        "old kept by increment": history,
    }


def run_averaged(bench: Bench, way: str) -> dict[str, dict[str, Any]]:
    """Scores of weights between those before and those after all increments (WiSE-FT, 2109.01903).

    It learns as "remember" does; each share is a generator that costs nothing more to train.
    """
    task, parts = open_task(), increments()
    entries = {entry.task: entry for entry in bench.zoo.entries()}
    new = [bench.task(entries[r.task]) for _, shown in parts for r in shown]
    old = bench.tasks(("seen",), OLD, 1) + bench.tasks(("unseen_composition",), OLD, 1)
    start = {name: value.clone() for name, value in task.denoiser.state_dict().items()}
    before, new_before = accuracies(bench, task, old), accuracies(bench, task, new)
    config = AVERAGED[way]
    learned: Records = []
    seen = list(task.records)
    for i, (trained, _) in enumerate(parts):
        print(f"{way}, increment {i + 1} of {len(parts)}: {FAMILIES[i]}", flush=True)
        memory = _memory(task, seen + learned, config.weight, config.rows)
        learn(task, trained, config.steps, memory, config.lr)
        learned += trained
    end = {name: value.clone() for name, value in task.denoiser.state_dict().items()}
    half, found = len(old) // 2, {}
    for share in (*SHARES, 1.0):
        task.denoiser.load_state_dict(
            {
                name: value.lerp(end[name], share) if value.is_floating_point() else end[name]
                for name, value in start.items()
            }
        )
        after = accuracies(bench, task, old)
        found[f"{way}, {share:g} of the way"] = {
            "old kept": _ratio(after, before),
            "seen kept": _ratio(after[:half], before[:half]),
            "compositions kept": _ratio(after[half:], before[half:]),
            "new, before": interval(new_before),
            "new, after": interval(accuracies(bench, task, new)),
        }
        print(share, found[f"{way}, {share:g} of the way"], flush=True)
    return found


def _memory(
    task: GeneratorTask, records: Records, weight: float = 1.0, rows: int = BATCH
) -> Memory:
    """The network as it is now, asked with descriptions of what it knows."""
    config = RememberConfig(behaviors=BEHAVIORS, rows=rows, weight=weight)
    memory = Memory(task.denoiser, task.texts, task.spec, config=config, seed=0)
    memory.descriptions = [text for record in records for text in record.descriptions]
    return memory


def _share(after: Sequence[float], before: Sequence[float]) -> float:
    return sum(after) / max(sum(before), 1e-9)


def _ratio(after: Sequence[float], before: Sequence[float]) -> dict[str, float]:
    """Ratio of sums with a bootstrap interval over tasks."""
    rng = random.Random(0)
    pairs = list(zip(after, before, strict=True))
    drawn = sorted(
        _share(*zip(*rng.choices(pairs, k=len(pairs)), strict=True)) for _ in range(2000)
    )
    return {
        "value": round(_share(after, before), 4),
        "low": round(drawn[49], 4),
        "high": round(drawn[1949], 4),
    }


def measure(bench: Bench, ways: Sequence[str] = ("remember", "naive", "retrain")) -> dict[str, Any]:
    """All ways; what is known of others is kept."""
    report = load("continual") or {"ways": {}}
    report |= {"families": FAMILIES, "steps_of_an_increment": STEPS, "inputs": bench.inputs}
    report |= {"old_tasks": 2 * OLD, "new_tasks": SHOWN * len(FAMILIES)}
    for way in ways:
        found = run_averaged(bench, way) if way in AVERAGED else {way: run(bench, way)}
        report["ways"] |= found
        print(found, flush=True)
        save("continual", report)
    return report


if __name__ == "__main__":
    measure(Bench(), sys.argv[1:] or ("remember", "naive", "retrain"))
