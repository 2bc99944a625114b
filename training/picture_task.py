"""Train the generator for a Diffusers base: pictures take the place of lines."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lora_gen.adapter.stacked import StackedFactors
from lora_gen.evaluation.pictures import by_component, load_pipeline
from training.behavior_data import BehaviorRecord
from training.config import require
from training.generator_config import GeneratorTaskConfig
from training.generator_data import GeneratorData, Readers
from training.generator_task import GeneratorTask
from training.picture_data import PictureData, Pictures, noised_of
from training.picture_objectives import picture_losses
from training.task import TaskContext

_UNET = "unet"
_MEASURED, _PICTURES = 48, 8
"""Tasks and pictures of each that an evaluation looks at."""


@dataclass(frozen=True, kw_only=True)
class PictureTaskConfig(GeneratorTaskConfig):
    """As for a language model, with pictures."""

    pictures: str
    """Safetensors file with the latents of each task's pictures; examples are (caption, row)."""
    timestep_power: float = 1.0
    """Below 1, noisier pictures come more often: they decide most of what is drawn in the end."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            0 < self.timestep_power <= 4,
            f"`task.timestep_power` is {self.timestep_power}, but must be above 0 and at most 4.",
        )


class PictureGeneratorTask(GeneratorTask):
    """See `training.task.Task`.

    `behavior: labels` compares with the pictures, `distill` with the zoo's adapters.
    """

    config: PictureTaskConfig

    def open_base(self) -> None:
        """The frozen pipeline, of which the UNet is adapted."""
        self.pipe = load_pipeline(self.config.base)
        for part in (self.pipe.unet, self.pipe.text_encoder):
            part.to(self.context.device)

    def build_data(self) -> GeneratorData:
        """Batches of noised pictures."""
        path, device = Path(self.config.pictures), self.context.device
        return PictureData(
            self.records,
            self.config.objective,
            readers=Readers(texts=self.texts, chat=None, spec=self.spec),
            context=self.context,
            zoo_tokens=self.zoo_tokens,
            pictures=Pictures(path, self.pipe, device),
            noise_scheduler=self.pipe.scheduler,
            timestep_power=self.config.timestep_power,
        )

    def _behavior(
        self, factors: dict[str, tuple[Tensor, Tensor]], batch: dict[str, Any], adapters: int
    ) -> Tensor:
        teacher: StackedFactors | None = None
        if self.config.objective.behavior == "distill":
            teacher = by_component(self.codecs[max(self.codecs)].factors(batch["tokens"]))[_UNET]
        own = by_component(factors)[_UNET]
        noisy = noised_of(batch)
        return picture_losses(self.pipe.unet, noisy, batch["states"], own, teacher=teacher).mean()

    @torch.no_grad()
    def evaluate(self, model: nn.Module, step: int) -> Mapping[str, float]:
        """Share of the base's loss that text-only adapters remove, seen tasks and validation."""
        denoiser: Any = model.denoiser
        return {
            "gain_seen": self._gain(denoiser, self.records),
            "gain_validation": self._gain(denoiser, self.validation),
        }

    def _gain(self, denoiser: Any, records: list[BehaviorRecord]) -> float:
        data: Any = self.data
        chosen = random.Random(0).sample(records, min(_MEASURED, len(records)))
        gains = []
        for start in range(0, len(chosen), 16):
            part = chosen[start : start + 16]
            shown = [
                (record.task, *record.examples[i % len(record.examples)])
                for record in part
                for i in range(_PICTURES)
            ]
            batch = data.noised(
                [(task, int(row)) for task, _, row in shown],
                [caption for _, caption, _ in shown],
                random.Random(start),
            )
            batch = {name: tensor.to(self.context.device) for name, tensor in batch.items()}
            noisy, states = noised_of(batch), batch["states"]
            own = by_component(self.generate(denoiser, part))[_UNET]
            after, before = (
                picture_losses(self.pipe.unet, noisy, states, f).view(len(part), -1).mean(1)
                for f in (own, None)
            )
            gains.append(1 - after / before)
        return float(torch.cat(gains).mean())


def build_picture_task(config: PictureTaskConfig, context: TaskContext) -> PictureGeneratorTask:
    """The picture generator's task of a recipe."""
    return PictureGeneratorTask(config, context)
