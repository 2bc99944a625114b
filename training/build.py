"""From a recipe to the objects that the loop works with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator  # type: ignore[import-untyped]
from accelerate.tracking import get_available_trackers  # type: ignore[import-untyped]
from accelerate.utils import (  # type: ignore[import-untyped]
    DistributedDataParallelKwargs,
    GradientAccumulationPlugin,
)
from torch import Tensor, nn

from lora_gen.errors import MissingDependencyError
from training.checkpoint import Identity
from training.config import RunConfig
from training.ema import Ema
from training.optimizer import build_optimizer
from training.random_state import random_state_kept, seed_everything
from training.recipe import Recipe
from training.sharded import fill, is_sharded
from training.state import TrainState
from training.task import Task, TaskContext
from training.tasks import find_task


@dataclass(kw_only=True)
class Run:
    """Everything that one call of `train` works with."""

    recipe: Recipe
    """What was asked for."""
    accelerator: Accelerator
    """Devices and processes."""
    task: Task
    """What is trained."""
    model: nn.Module
    """`task.model` as Accelerate prepared it."""
    optimizer: Any
    """`state.optimizer` as Accelerate prepared it."""
    state: TrainState
    """What changes from step to step."""
    identity: Identity
    """What a checkpoint must share with this run."""
    generator: torch.Generator
    """Seeded anew for each micro-batch."""
    skipped: int = 0
    """Steps in a row, up to now, that were left out because they were not finite."""
    saved_step: int = -1
    """Step of the newest checkpoint, or -1."""
    twin: Task | None = None
    """The task on one process, for what sharded weights cannot do; made when it is needed."""
    inherited: tuple[str, ...] = ()
    """Parents of the checkpoint that was resumed; forced, it may know more than the task does."""

    @property
    def folder(self) -> Path:
        """The output folder."""
        return Path(self.recipe.run.output_dir)

    @property
    def is_sharded(self) -> bool:
        """Whether each process holds a part of the weights only."""
        return is_sharded(self.state.model)

    def averaged_twin(self, tensors: Mapping[str, Mapping[str, Tensor]]) -> Task:
        """The task with whole, averaged weights on this process alone.

        Args:
            tensors: From `state.tensors()`.
        """
        if self.twin is None:
            settings = self.recipe.run
            _, build_task = find_task(self.recipe.task_name)
            with random_state_kept():
                self.twin = build_task(
                    self.recipe.task,
                    TaskContext(
                        seed=settings.seed,
                        batch_size=settings.batch_size,
                        device=self.accelerator.device,
                    ),
                )
            self.twin.model.to(self.accelerator.device)
        fill(self.twin.model, {**tensors["model"], **tensors["ema"]})
        return self.twin


def build_accelerator(settings: RunConfig) -> Accelerator:
    """Accelerate, set up by the recipe alone.

    Args:
        settings: Precision, accumulation, threads and trackers.

    Raises:
        MissingDependencyError: A tracker is not installed.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    trackers = list(settings.tracking.trackers)
    installed = {str(name) for name in get_available_trackers()}
    for name in trackers:
        if name not in installed:
            raise MissingDependencyError(
                f"`tracking.trackers` names {name!r}, which is not installed. "
                f"Run `pip install {name}`, or remove it from the recipe."
            )
    return Accelerator(
        mixed_precision=settings.mixed_precision,
        # the plugin, since a variable of the launcher would override the plain argument
        gradient_accumulation_plugin=GradientAccumulationPlugin(
            num_steps=settings.gradient_accumulation_steps, sync_with_dataloader=False
        ),
        # a step may leave parts unused, such as an embedding of an absent input
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        log_with=trackers or None,
        project_dir=settings.output_dir,
    )


def build_run(recipe: Recipe, accelerator: Accelerator) -> Run:
    """The task with its optimizer and averages at step 0.

    Args:
        recipe: Run and task.
        accelerator: From `build_accelerator`.
    """
    settings, device = recipe.run, accelerator.device
    _, build_task = find_task(recipe.task_name)
    seed_everything(settings.seed, "build")
    context = TaskContext(seed=settings.seed, batch_size=settings.batch_size, device=device)
    task = build_task(recipe.task, context)
    # Together, since FSDP2 puts other parameters into both.
    own_optimizer = build_optimizer(task.model, settings.optimizer)
    model, optimizer = accelerator.prepare(task.model, own_optimizer)
    state = TrainState(model=task.model, optimizer=own_optimizer, ema=Ema(task.model, settings.ema))
    seed_everything(settings.seed, "process", accelerator.process_index)
    return Run(
        recipe=recipe,
        accelerator=accelerator,
        task=task,
        model=model.train(),
        optimizer=optimizer,
        state=state,
        identity=Identity(task.fingerprint(), accelerator.num_processes),
        generator=torch.Generator(device=device),
    )
