"""What workers run in tests of jobs: functions that succeed, fail, or are killed half-way."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_gen.errors import ConfigError
from lora_gen.jobs import JobOptions, JobResult, call


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
    import ray

    killed_once(number, folder)
    time.sleep(2)
    return str(ray.get_runtime_context().get_node_id())


@dataclass(frozen=True, kw_only=True)
class KilledOnce(JobOptions):
    """Jobs of which the first is killed at its first attempt, somewhere in its work."""

    marks: str
    """Folder with a file for each attempt."""

    def run(self, function: str, jobs: Mapping[str, Mapping[str, Any]]) -> Iterator[JobResult]:
        wrapped = {
            name: {
                "function": function,
                "arguments": dict(arguments),
                "number": i,
                "folder": self.marks,
            }
            for i, (name, arguments) in enumerate(jobs.items())
        }
        return super().run("job_functions:killed_at_work", wrapped)


@dataclass(frozen=True, kw_only=True)
class Here(JobOptions):
    """Jobs in this process."""

    def run(self, function: str, jobs: Mapping[str, Mapping[str, Any]]) -> Iterator[JobResult]:
        for name, arguments in jobs.items():
            value, error, _ = call(function, dict(arguments))
            yield JobResult(name=name, value=value, error=error)


def killed_at_work(function: str, arguments: dict[str, Any], number: int, folder: str) -> Any:
    if _note(folder, number) == 1 and number == 0:
        threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGKILL)).start()
        call(function, arguments)
        time.sleep(60)
    value, error, _ = call(function, arguments)
    if error is not None:
        raise ConfigError(error)
    return value
