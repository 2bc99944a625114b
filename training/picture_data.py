"""Micro-batches of a generator for a Diffusers base: what is asked, and noised styled pictures."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from lora_gen.errors import ConfigError
from training.behavior_data import BehaviorRecord
from training.generator_data import GeneratorData
from training.order import derive_seed
from training.picture_objectives import Noised, noised

DROP_CAPTION = 0.1
"""Share of pictures without their caption: guidance needs an adapted base that works without."""


class Pictures:
    """Latents of each task's pictures, and states of their captions.

    A record's examples are (caption, row): the picture is that row of the tensor under the task's
    name. Rows are read from the file when they are asked for.

    Args:
        path: Safetensors file, task -> (P, C, h, w).
        pipe: The frozen base.
        device: Where states are made.

    Raises:
        ConfigError: There is no file.
    """

    def __init__(self, path: Path, pipe: Any, device: torch.device) -> None:
        if not path.is_file():
            raise ConfigError(
                f"`{path}` is not a file. Make the pictures with the recipe's first commands."
            )
        self._file = safe_open(path, "pt")
        self._pipe, self._device = pipe, device
        self._states: dict[str, Tensor] = {}

    def latents(self, examples: Sequence[tuple[str, int]]) -> Tensor:
        """Clean latents of (task, row) pairs, (N, C, h, w) float32."""
        found = [self._row_of(task, row) for task, row in examples]
        return torch.cat(found).float()

    def _row_of(self, task: str, row: int) -> Tensor:
        rows: Any = self._file.get_slice(task)  # type: ignore[no-untyped-call]
        latents: Tensor = rows[row : row + 1]
        return latents

    @torch.no_grad()
    def states(self, captions: Sequence[str]) -> Tensor:
        """States of captions, (N, K, C), each computed once."""
        fresh = [text for text in dict.fromkeys(captions) if text not in self._states]
        if fresh:
            tokenizer = self._pipe.tokenizer
            ids = tokenizer(
                fresh,
                padding="max_length",
                max_length=tokenizer.model_max_length,
                truncation=True,
                return_tensors="pt",
            ).input_ids
            states = self._pipe.text_encoder(ids.to(self._device))[0].cpu()
            self._states |= dict(zip(fresh, states, strict=True))
        return torch.stack([self._states[text] for text in captions])


class PictureData(GeneratorData):
    """Batches whose work is to predict the noise of styled pictures.

    Args:
        pictures: What to draw.
        noise_scheduler: The base's.
        timestep_power: As in `noised`, for training.
        args: As in `GeneratorData`.
        shared: Likewise.
    """

    def __init__(
        self,
        *args: Any,
        pictures: Pictures,
        noise_scheduler: Any,
        timestep_power: float = 1.0,
        **shared: Any,
    ) -> None:
        super().__init__(*args, **shared)
        self.pictures, self.noise_scheduler = pictures, noise_scheduler
        self.timestep_power = timestep_power

    def work(self, records: Sequence[BehaviorRecord], rng: random.Random) -> dict[str, Tensor]:
        """Noised pictures of each record, adapter-major."""
        drawn = [
            (record.task, caption, int(row))
            for record in records
            for caption, row in rng.sample(record.examples, self.goal.lines_per_task)
        ]
        captions = ["" if rng.random() < DROP_CAPTION else caption for _, caption, _ in drawn]
        examples = [(task, row) for task, _, row in drawn]
        return self.noised(examples, captions, rng, timestep_power=self.timestep_power)

    def noised(
        self,
        examples: Sequence[tuple[str, int]],
        captions: Sequence[str],
        rng: random.Random,
        *,
        timestep_power: float = 1.0,
    ) -> dict[str, Tensor]:
        """Noised pictures, what is to be predicted, and states of the captions."""
        source = torch.Generator().manual_seed(derive_seed(rng.randrange(2**31), "noise"))
        latents = self.pictures.latents(examples)
        noisy = noised(self.noise_scheduler, latents, source, timestep_power=timestep_power)
        return {
            "noisy": noisy.latents,
            "timesteps": noisy.timesteps,
            "target": noisy.target,
            "states": self.pictures.states(captions),
        }

    def _row(
        self, record: BehaviorRecord, rng: random.Random
    ) -> tuple[str | None, list[str], list[tuple[str, str]]]:
        """Text or nothing: pictures are not shown to the network."""
        text = rng.choice(record.descriptions)
        return (None if rng.random() < self.goal.drop_text else text), [], []


def noised_of(batch: dict[str, Any]) -> Noised:
    """The noised pictures of a batch."""
    return Noised(latents=batch["noisy"], timesteps=batch["timesteps"], target=batch["target"])
