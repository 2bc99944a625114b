"""What is trained for docs/baselines.md: published generators and ours, each at one budget."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

from lora_gen.files import atomic_write_json

HERE = Path("recipes/tiny_lm")
RANK = 2
"""Rank of all trained ones' adapters; the zoo's at this rank lose one part in a hundred."""
_OURS = (
    # Half the shipped rate, which is unsteady with the 12 tasks a step that all runs have.
    "optimizer.lr=1e-3",
    "task.objective.drop_text=0",
    "task.objective.show_prompts=0",
    "task.objective.show_examples=0",
    "lr_scheduler.warmup_steps=50",
    "ema.decay=0.99",
    "checkpoint.every=50",
    "tracking.eval_every=0",
)
_COPY = ("task.splits=[seen]",)
_FLOW_ALONE = ("task.objective.behavior_weight=0", "task.objective.flow_weight=1")
_ONE_PASS = ("task.objective.sampler_steps=1", "task.objective.flow_weight=0")
BEHAVIOR, WEIGHTS = "behavior", "weights"


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training of the comparison."""

    label: str
    """What the report calls it."""
    learns: str
    """What from."""
    recipe: str
    """Which recipe of this folder."""
    overrides: tuple[str, ...]
    sampler_steps: int | None = None
    """Of a generator of ours; None is its default."""


def _published(label: str, method: str, *overrides: str, learns: str = WEIGHTS) -> Run:
    more = overrides if learns == BEHAVIOR else (*overrides, *_COPY)
    return Run(
        label=label,
        learns=learns,
        recipe="baselines.yaml",
        overrides=(f"task.method={method}", *more),
    )


def _ours(
    label: str, *overrides: str, learns: str = BEHAVIOR, sampler_steps: int | None = None
) -> Run:
    return Run(
        label=label,
        learns=learns,
        recipe="generator.yaml",
        overrides=(*_OURS, *overrides),
        sampler_steps=sampler_steps,
    )


RUNS = {
    "generator": _ours("ours, same budget", learns=f"{BEHAVIOR} and {WEIGHTS}"),
    "hypernetwork_behavior": _published(
        "hypernetwork by behavior", "hypernetwork_behavior", learns=BEHAVIOR
    ),
    "hypernetwork_reconstruction": _published(
        "hypernetwork by reconstruction", "hypernetwork_reconstruction"
    ),
    "latent_diffusion": _published("latent diffusion", "latent_diffusion", "task.hidden_dim=64"),
    "cvae": _published("conditional VAE", "cvae"),
    "prompt_decoder": _published("prompt-batch decoder", "prompt_decoder", "task.hidden_dim=128"),
    "multi_task": _published(
        "multi-task LoRA told the text",
        "multi_task",
        "task.objective.lines_per_task=1",
        "optimizer.lr=5e-3",
        learns=BEHAVIOR,
    ),
    "recurrent_diffusion": _ours(
        "recurrent diffusion, no behavior", *_COPY, *_FLOW_ALONE, learns=WEIGHTS
    ),
    "one_pass": _ours("ours in one pass, no weights", *_ONE_PASS, sampler_steps=1),
    "hypernetwork_delta": _published(
        "hypernetwork by reconstruction of products",
        "hypernetwork_reconstruction",
        "task.target=delta",
    ),
}
"""Every training by the name of its folder, those that decide most first."""


def final(name: str, build: Path) -> Path:
    """Where a run's artifact lies once it is trained."""
    return build / "baselines" / name / "final"


def overrides_of(name: str, build: Path, steps: int) -> list[str]:
    """What changes the run's recipe: its own settings, places and budget."""
    found = [
        *RUNS[name].overrides,
        f"output_dir={final(name, build).parent}",
        f"max_steps={steps}",
        f"task.behaviors={build / 'behaviors.jsonl'}",
        f"task.zoo={build / 'zoo'}",
    ]
    return [*found, f"task.autoencoder_steps={steps // 2}"] if name == "latent_diffusion" else found


def train_run(name: str, build: Path, steps: int) -> bool:
    """Train a run to its end, or go on with it; False if it was asked to stop.

    Its processor time is kept beside it: on a busy machine, wall time says little.
    """
    from training.loop import train
    from training.recipe import load_recipe

    if final(name, build).is_dir():
        return True
    path = final(name, build).parent / "cpu_seconds.json"
    started = time.process_time()
    reached = train(load_recipe(HERE / RUNS[name].recipe, overrides_of(name, build, steps)))
    before = json.loads(path.read_text()) if path.is_file() else 0.0
    atomic_write_json(path, round(before + time.process_time() - started, 1))
    return reached == steps


def training_of(name: str, build: Path) -> dict[str, float | str | int]:
    """What a trained run cost."""
    folder = final(name, build).parent
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    seconds = json.loads((folder / "cpu_seconds.json").read_text())
    return {"learns": RUNS[name].learns, "steps": last["step"], "cpu_seconds": seconds}
