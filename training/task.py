"""What the loop asks of a task. The loop knows nothing else about what is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class TaskContext:
    """What a task may know about the run when it is built."""

    seed: int
    """The recipe's seed; the order of data depends on it."""
    batch_size: int
    """Examples in one call of `Task.batch`."""
    device: torch.device
    """Where the loop puts the model and each batch; frozen helpers of the task belong there too."""


@runtime_checkable
class Task(Protocol):
    """A model with its data and its loss.

    Exact resume rests on one rule: `batch` and `loss` depend on their arguments and the seed only.
    Draw random numbers from the `generator` that `loss` is given; the loop restores global random
    state, for dropout.
    """

    model: nn.Module
    """What is trained: float32 parameters; those with `requires_grad=False` stay as they are."""

    def batch(self, index: int) -> Any:
        """Micro-batch number `index` of the whole run, over all processes and epochs.

        Args:
            index: Counts from 0 without gaps; process `p` of `W` gets every W-th from `p`. Epochs
                are the task's matter: see `training.order.batch_positions`.

        Returns:
            Tensors in dicts, lists, tuples, or an object with `.to(device)`.
        """
        ...

    def loss(
        self, model: nn.Module, batch: Any, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """Mean loss of a micro-batch, and what to log beside it.

        Args:
            model: `self.model` as Accelerate prepared it; call this one, so that gradients are
                averaged over processes.
            batch: What `batch` returned, on the model's device.
            generator: On the model's device, seeded from the recipe's seed and the number of the
                micro-batch.

        Returns:
            A scalar tensor, and scalars by name; tensors are read only when a log line is due.
        """
        ...

    def save(self, folder: Path, model: nn.Module) -> None:
        """Write the artifact into an existing empty folder; `model` holds the averaged weights."""
        ...

    def fingerprint(self) -> str:
        """Hash of the data; a checkpoint of other data is not resumed."""
        ...


@runtime_checkable
class DerivedTask(Task, Protocol):
    """A task that can say what its weights were made from, so that it can be found again."""

    def parents(self) -> Sequence[str]:
        """Ids for the manifests of checkpoints and artifact, such as `zoo:<id>` of an entry."""
        ...


@runtime_checkable
class EvaluatedTask(Task, Protocol):
    """A task that can measure itself while it trains."""

    def evaluate(self, model: nn.Module, step: int) -> Mapping[str, float]:
        """Scores of the averaged weights, on the main process only; random state is kept."""
        ...
