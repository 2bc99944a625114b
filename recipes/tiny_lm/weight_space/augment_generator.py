"""What augmentations of the zoo's adapters do for a generator: one short training with and without.

Each goes on from the shipped generator by `recipes/tiny_lm/generator.yaml`, with the flow-matching
loss, which alone sees the zoo's adapters, at twenty times the recipe's weight. What is measured are
adapters from descriptions, of seen and of held-out tasks: exact match, and the loss of the right
answers.

python -m recipes.tiny_lm.weight_space.augment_generator
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.stacked import stack_adapters
from lora_gen.assets import default_generator
from lora_gen.pipeline import LoraGenPipeline
from recipes.tiny_lm.weight_space.bench import HELD_OUT, Bench, Task, interval, load, save
from recipes.tiny_lm.weight_space.nowcast import losses_on
from training.loop import train
from training.recipe import load_recipe

RECIPE, RUNS = Path("recipes/tiny_lm/generator.yaml"), "build/tiny_lm/augmented"
STEPS, SHOWN, INPUTS = 100, 48, 16
BEFORE, PLAIN = "before", "adapters as they are"
TAUGHT: dict[str, tuple[str, ...]] = {
    PLAIN: (),
    "rank truncation and noise": ("min_rank=1", "noise=0.3"),
    "all but mixing": ("min_rank=1", "noise=0.3", "bits=4", "drop=0.1", "jitter=0.2"),
}
SHORT = (
    f"max_steps={STEPS}",
    f"task.start_from={default_generator()}",
    "task.objective.flow_weight=1.0",
    "optimizer.lr=1e-3",
    "lr_scheduler.warmup_steps=10",
    "ema.decay=0.9",
    f"checkpoint.every={STEPS}",
    f"tracking.eval_every={STEPS}",
)


def trained(name: str) -> Path:
    """The generator after a short training; one that was stopped goes on."""
    folder = f"{RUNS}/{name.replace(' ', '_')}"
    changes = [f"task.objective.augment.{change}" for change in TAUGHT[name]]
    train(load_recipe(RECIPE, [*SHORT, f"output_dir={folder}", *changes]))
    return Path(folder) / "final"


def written(folder: Path, tasks: Sequence[Task]) -> list[Adapter]:
    """The generator's adapters for the first descriptions."""
    pipe = LoraGenPipeline.from_pretrained(folder)
    return [
        pipe(t.entry.descriptions[0], generator=torch.Generator().manual_seed(0)).adapters[0]
        for t in tasks
    ]


def scored(bench: Bench, folder: Path, tasks: Sequence[Task]) -> tuple[list[float], list[float]]:
    """(exact match, log of the loss) of each task."""
    adapters, tests = written(folder, tasks), [task.tests[:INPUTS] for task in tasks]
    losses: list[float] = []
    for start in range(0, len(adapters), 16):
        part = slice(start, start + 16)
        losses += losses_on(bench, tests[part], stack_adapters(adapters[part]))
    return bench.scores(adapters, tests), [math.log(max(loss, 1e-6)) for loss in losses]


def measure(bench: Bench, names: Sequence[str] = tuple(TAUGHT)) -> dict[str, Any]:
    """Scores of each training, and how far they are above those of the training without."""
    bench.inputs = INPUTS
    tasks = bench.tasks(("seen",), SHOWN // 2, 5) + bench.tasks(HELD_OUT, SHOWN, 5)
    report: dict[str, Any] = load("augment_generator") or {"rows": {}}
    report |= {"steps": STEPS, "seen": SHOWN // 2, "held_out": SHOWN}
    found: dict[str, tuple[list[float], list[float]]] = {}
    for name in (BEFORE, *names):
        folder = default_generator() if name == BEFORE else trained(name)
        found[name] = scored(bench, Path(folder), tasks)
        report["rows"][name] = _row(*found[name], found.get(PLAIN))
        print(name, report["rows"][name], flush=True)
        save("augment_generator", report)
    return report


def _row(
    hits: list[float], losses: list[float], plain: tuple[list[float], list[float]] | None
) -> dict[str, Any]:
    held = slice(SHOWN // 2, None)
    row: dict[str, Any] = {
        "seen": interval(hits[: SHOWN // 2]),
        "held out": interval(hits[held]),
        "log loss": interval(losses[held]),
    }
    if plain is not None:
        row["more exact"] = interval(_less(hits[held], plain[0][held]))
        row["less log loss"] = interval(_less(plain[1][held], losses[held]))
    return row


def _less(left: Sequence[float], right: Sequence[float]) -> list[float]:
    return [a - b for a, b in zip(left, right, strict=True)]


if __name__ == "__main__":
    measure(Bench(), sys.argv[1:] or tuple(TAUGHT))
