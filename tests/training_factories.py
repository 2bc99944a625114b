"""Toy recipes, and ways to run them here or in a child process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lora_gen.files import sha256_file
from training.loop import train
from training.metrics import read_metrics
from training.recipe import Recipe, parse_recipe
from training.tasks import TASKS
from training.toy_task import ToyConfig, ToyTask

ROOT = Path(__file__).parent.parent
HANG_SECONDS = 300
"""A child that takes longer hangs, even on a busy machine."""


def toy_data(folder: Path, **changes: Any) -> dict[str, Any]:
    """A recipe of 12 steps whose third epoch begins inside the eighth step."""
    return {
        "output_dir": str(folder),
        "max_steps": 12,
        "batch_size": 4,
        "gradient_accumulation_steps": 2,
        "optimizer": {"lr": 1e-2},
        "lr_scheduler": {"schedule": "constant"},
        "checkpoint": {"every": 5},
        "tracking": {"log_every": 1},
        "task": {"name": "toy", "num_examples": 30},
        **changes,
    }


def toy_recipe(folder: Path, *overrides: str, **changes: Any) -> Recipe:
    return parse_recipe(toy_data(folder, **changes), overrides)


def train_toy(folder: Path, *overrides: str, **changes: Any) -> int:
    return train(toy_recipe(folder, *overrides, **changes))


def register_toy(monkeypatch: Any, toy_class: type[ToyTask]) -> None:
    """Let `task.name: toy` mean another class."""
    monkeypatch.setitem(TASKS, "toy", lambda: (ToyConfig, toy_class))


def losses(folder: Path) -> list[tuple[float, float]]:
    """Step and loss of each log line; exact."""
    lines = read_metrics(folder / "metrics.jsonl")
    return [(line["step"], line["loss"]) for line in lines if "loss" in line]


def weight_hashes(folder: Path, step: int) -> dict[str, str]:
    """Hash of every tensor file of a checkpoint."""
    files = (folder / f"checkpoint-{step}").glob("*.safetensors")
    return {path.stem: sha256_file(path) for path in files}


def recipe_file(folder: Path, **changes: Any) -> Path:
    """The toy recipe as a file beside its output folder."""
    path = folder.parent / f"{folder.name}.yaml"
    path.write_text(toy_recipe(folder, **changes).to_yaml(), encoding="utf-8")
    return path


def environment() -> dict[str, str]:
    paths = f"{ROOT}{os.pathsep}{ROOT / 'tests'}"
    return {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}


@contextmanager
def child(
    *arguments: str, launcher: tuple[str, ...] = ("-m", "training")
) -> Iterator[subprocess.Popen[str]]:
    """`python -m training` in a process group of its own, which does not outlive the block."""
    process = subprocess.Popen(
        [sys.executable, *launcher, *arguments],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=HANG_SECONDS)


def ended(process: subprocess.Popen[str]) -> str:
    """What a child said on stderr until it and its own children had closed it."""
    return process.communicate(timeout=HANG_SECONDS)[1]


def wait_for_step(process: subprocess.Popen[str], folder: Path, step: int) -> None:
    """Return once the child's log shows `step`; 0 waits for the log itself."""
    log, deadline = folder / "metrics.jsonl", time.monotonic() + HANG_SECONDS
    while not log.exists() or len(losses(folder)) < step:
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline, "the child does not train"
        time.sleep(0.02)


def flip_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
