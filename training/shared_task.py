"""One generator for two bases: its steps turn from language tasks to lenses and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training.config import require
from training.generator_config import GeneratorTaskConfig
from training.generator_task import GeneratorTask
from training.lens_task import LensTaskConfig, build_lens_task
from training.task import TaskContext

PARTS = ("generator", "lens_generator")


@dataclass(frozen=True, kw_only=True)
class SharedTaskConfig:
    """Two tasks, one network."""

    generator: GeneratorTaskConfig
    """The language base; `model` is the other's."""
    lens_generator: LensTaskConfig
    """The embedding base, whose network and tokens' width both have."""
    turns: tuple[str, ...] = PARTS
    """Which task a batch is of, in turn; one alone trains for it, from the same start."""

    def __post_init__(self) -> None:
        require(
            bool(self.turns) and set(self.turns) <= set(PARTS),
            f"`task.turns` is {list(self.turns)}, but names {' and '.join(PARTS)}, at least one.",
        )


class _Trainee(nn.Module):
    """The network with the loss of a batch's own task as `forward`."""

    def __init__(self, tasks: Mapping[str, GeneratorTask], denoiser: nn.Module) -> None:
        super().__init__()
        self.denoiser = denoiser
        self._tasks = (tasks,)  # a tuple keeps the frozen bases out of the parameters

    def forward(
        self, batch: dict[str, Any], generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        task = self._tasks[0][batch["turn"]]
        loss, parts = task.objective(self.denoiser, batch, generator)  # type: ignore[arg-type]
        return loss, {f"{batch['turn']}/{name}": value for name, value in parts.items()}


class _Narrow(GeneratorTask):
    """The language base with tokens as wide as the other base's."""

    def __init__(self, config: GeneratorTaskConfig, context: TaskContext, *, width: int) -> None:
        self._width = width
        super().__init__(config, context)

    @property
    def token_width(self) -> int:
        return self._width


class SharedGeneratorTask:
    """See `training.task.Task`.

    The base is told by its features in the condition. Each task keeps the scale of its own zoo's
    tokens, so that no base is asked for the other's sizes.
    """

    def __init__(self, config: SharedTaskConfig, context: TaskContext) -> None:
        self.config = config
        lenses = build_lens_task(config.lens_generator, context)
        words = _Narrow(config.generator, context, width=lenses.token_width)
        words.denoiser = lenses.denoiser
        self.tasks: dict[str, GeneratorTask] = {"generator": words, "lens_generator": lenses}
        self.model: nn.Module = _Trainee(self.tasks, lenses.denoiser)

    def batch(self, index: int) -> dict[str, Any]:
        """A batch of the task whose turn it is."""
        round_, place = divmod(index, len(self.config.turns))
        turn = self.config.turns[place]
        earlier = self.config.turns[:place].count(turn)
        own = round_ * self.config.turns.count(turn) + earlier
        return self.tasks[turn].batch(own) | {"turn": turn}

    def loss(
        self, model: nn.Module, batch: Any, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """The loss of the batch's own task."""
        found: tuple[Tensor, Mapping[str, float | Tensor]] = model(batch, generator)
        return found

    @torch.no_grad()
    def evaluate(self, model: nn.Module, step: int) -> Mapping[str, float]:
        """What both tasks measure."""
        found: dict[str, float] = {}
        for name, task in self.tasks.items():
            scores = task.evaluate(model, step)
            found |= {f"{name}/{key}": value for key, value in scores.items()}
        return found

    def save(self, folder: Path, model: nn.Module) -> None:
        """The network with the lenses' scale of tokens; see `LensGeneratorTask.save`."""
        self.tasks["lens_generator"].save(folder, model)

    def fingerprint(self) -> str:
        """Both tasks' data."""
        return "".join(task.fingerprint() for task in self.tasks.values())


def build_shared_task(config: SharedTaskConfig, context: TaskContext) -> SharedGeneratorTask:
    """The task of a recipe."""
    return SharedGeneratorTask(config, context)
