"""What several processes do together; with one process each is a plain call."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from accelerate import Accelerator  # type: ignore[import-untyped]
from accelerate.utils import (  # type: ignore[import-untyped]
    broadcast_object_list,
    gather_object,
)

from training.errors import TrainingError

_Value = TypeVar("_Value")


def agree(accelerator: Accelerator, *flags: bool) -> list[bool]:
    """Each flag, raised on every process when it is raised on one."""
    if accelerator.num_processes == 1:
        return list(flags)
    votes = torch.tensor(flags, dtype=torch.float32, device=accelerator.device)
    return [vote > 0 for vote in accelerator.reduce(votes, "sum").tolist()]


def gather(accelerator: Accelerator, value: _Value) -> list[_Value]:
    """`value` of every process, by its index."""
    return list(gather_object([value])) if accelerator.num_processes > 1 else [value]


def from_main(accelerator: Accelerator, value: _Value) -> _Value:
    """The main process's value, everywhere."""
    values: list[Any] = [value]
    if accelerator.num_processes > 1:
        broadcast_object_list(values)
    result: _Value = values[0]
    return result


@contextmanager
def on_main(accelerator: Accelerator) -> Iterator[bool]:
    """True on the main process; the others wait, and fail with it instead of waiting for ever.

    Raises:
        TrainingError: On the other processes, when the main one failed.
    """
    failure = ""
    try:
        yield accelerator.is_main_process
    except BaseException as error:
        failure = str(error) or type(error).__name__
        raise
    finally:
        failure = from_main(accelerator, failure)
        if failure and not accelerator.is_main_process:
            raise TrainingError(f"The main process failed: {failure}")


def leave_group() -> None:
    """Close the connections to the other processes; call it last.

    Left to the interpreter's exit, gloo's threads may outlive what they use, and abort a process
    that has done all its work.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def say(accelerator: Accelerator, sentence: str) -> None:
    """Tell the user, once."""
    if accelerator.is_main_process:
        print(sentence, file=sys.stderr, flush=True)
