from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from training_factories import (
    child,
    ended,
    losses,
    recipe_file,
    train_toy,
    wait_for_step,
    weight_hashes,
)

from training.checkpoint import find_checkpoint

ENDLESS = 10**6


def _stopped_step(folder: Path) -> int:
    found, skipped = find_checkpoint(folder)
    assert found is not None
    assert skipped == []
    return int(found.name.partition("-")[2])


def _assert_resume_equals_unbroken(folder: Path, straight: Path, step: int) -> None:
    train_toy(folder, f"max_steps={step}")
    train_toy(straight, f"max_steps={step}")
    assert losses(folder) == losses(straight)
    assert weight_hashes(folder, step) == weight_hashes(straight, step)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_train_checkpoints_and_exits_with_0_on_a_stop_signal(
    tmp_path: Path, number: signal.Signals
) -> None:
    run = tmp_path / "run"
    recipe = recipe_file(run, max_steps=ENDLESS, checkpoint={"every": ENDLESS})
    with child(str(recipe)) as process:
        wait_for_step(process, run, 8)
        process.send_signal(number)
        said = ended(process)
    assert process.returncode == 0
    assert f"{number.name}: finishing the step, then writing a checkpoint." in said
    step = _stopped_step(run)
    assert step == losses(run)[-1][0] >= 8
    _assert_resume_equals_unbroken(run, tmp_path / "straight", step + 5)


def test_train_resumes_exactly_after_kill_9(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with child(str(recipe_file(run, max_steps=ENDLESS, checkpoint={"every": 2}))) as process:
        wait_for_step(process, run, 9)
        process.kill()
        ended(process)
    step = _stopped_step(run)
    _assert_resume_equals_unbroken(run, tmp_path / "straight", step + 5)
    assert not list(run.glob(".tmp-*"))


def test_train_exits_at_once_on_a_second_signal(tmp_path: Path) -> None:
    run = tmp_path / "run"
    recipe = recipe_file(run, max_steps=ENDLESS, gradient_accumulation_steps=ENDLESS)
    with child(str(recipe)) as process:
        wait_for_step(process, run, 0)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert process.poll() is None  # the first step is far from its end
        process.send_signal(signal.SIGTERM)
        ended(process)
    assert process.returncode == 128 + signal.SIGTERM
    assert find_checkpoint(run) == (None, [])


@pytest.mark.parametrize("to_group", [False, True])
def test_train_checkpoints_when_accelerate_launch_is_terminated(
    tmp_path: Path, to_group: bool
) -> None:
    run = tmp_path / "run"
    recipe = recipe_file(run, max_steps=ENDLESS, checkpoint={"every": ENDLESS})
    launch = ("-m", "accelerate.commands.accelerate_cli", "launch", "--num_processes", "1")
    with child(str(recipe), launcher=(*launch, "-m", "training")) as process:
        wait_for_step(process, run, 5)
        (os.killpg if to_group else os.kill)(process.pid, signal.SIGTERM)
        ended(process)
    assert _stopped_step(run) >= 5
