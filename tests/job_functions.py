"""What workers run in tests of jobs: functions that succeed, fail, or are killed half-way."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from lora_gen.errors import ConfigError


def square(number: int, folder: str) -> int:
    """Leaves a file for each attempt, and returns the square."""
    _note(folder, number)
    return number * number


def killed_once(number: int, folder: str) -> int:
    """As `square`, but job 2 kills its own worker at its first attempt."""
    if _note(folder, number) == 1 and number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def always_killed(number: int, folder: str) -> int:
    if _note(folder, number) and number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def refuses(number: int, folder: str) -> int:
    _note(folder, number)
    raise ConfigError("`number` is not welcome. Pass another.")


def breaks(number: int, folder: str) -> int:
    _note(folder, number)
    raise OSError("out of luck")


def _note(folder: str, number: int) -> int:
    attempt = len(attempts(Path(folder), number)) + 1
    Path(folder, f"{number}-{attempt}").touch()
    return attempt


def attempts(folder: Path, number: int) -> list[str]:
    return [path.name for path in folder.glob(f"{number}-*")]


def node_of(number: int, folder: str) -> str:
    """The Ray node that ran the job; slow enough that one node cannot take all."""
    import time

    import ray

    killed_once(number, folder)
    time.sleep(2)
    return str(ray.get_runtime_context().get_node_id())
