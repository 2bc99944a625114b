"""Trained baselines and generators in folders, answering texts with adapters."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.base_model import BaseModelSpec
from lora_gen.conditioning.condition import Condition
from lora_gen.conditioning.text import TextEncoder
from lora_gen.errors import ConfigError
from lora_gen.models.baselines.model import BaselineModel
from lora_gen.pipeline import LoraGenPipeline


class TrainedBaseline:
    """A published generator that was trained here; texts are answered one at a time.

    Args:
        folder: What its training saved.
        encoder: The text encoder it was trained with.
        spec: The base.

    Raises:
        ConfigError: It was trained with another text encoder.
    """

    def __init__(self, folder: Path, encoder: TextEncoder, spec: BaseModelSpec) -> None:
        self.model = BaselineModel.from_pretrained(folder, low_cpu_mem_usage=False).eval()
        self.encoder, self.spec, self.told = encoder, spec, self.model.is_told
        self.parameters = sum(p.numel() for p in self.model.parameters())
        if self.model.config.text_fingerprint != encoder.fingerprint:
            raise ConfigError(
                f"`{folder}` was trained with another text encoder than the generator that it is "
                "measured beside. Train it again with that one."
            )

    def adapters(self, texts: Sequence[str], seed: int) -> list[Adapter]:
        """One adapter a text; the seed draws what a method draws."""
        found, codec = [], self.model.codec
        for i, text in enumerate(texts):
            states = self.encoder.encode([text])
            condition = Condition(text_states=states.states, text_mask=states.mask)
            tokens = self.model.write(condition, _draws(seed, i))[0]
            like = {"base": self.spec.id, "task_type": self.spec.task_type}
            found.append(codec.decode(tokens, **like))
        return found


class TrainedGenerator:
    """A generator beside the one that is evaluated: another objective, size or budget.

    Args:
        folder: What its training saved.
        spec: The base.
        rank: Rank of its adapters.
        steps: Sampler steps; None takes the pipeline's default.
    """

    told = False

    def __init__(
        self, folder: Path, spec: BaseModelSpec, rank: int, *, steps: int | None = None
    ) -> None:
        self.pipe = LoraGenPipeline.from_pretrained(folder)
        self.spec, self.rank, self.steps = spec, rank, steps
        self.parameters = sum(p.numel() for p in self.pipe.denoiser.parameters())

    def adapters(self, texts: Sequence[str], seed: int) -> list[Adapter]:
        """One adapter a text; the seed draws the noise."""
        return [
            self.pipe(
                text,
                base=self.spec,
                rank=self.rank,
                num_inference_steps=self.steps,
                generator=_draws(seed, i),
            ).adapters[0]
            for i, text in enumerate(texts)
        ]


def _draws(seed: int, row: int) -> torch.Generator:
    return torch.Generator().manual_seed(1_000 * seed + row)


def is_learned(folder: Path) -> bool:
    """Whether a trained baseline or generator lies there."""
    if (folder / "model_index.json").is_file():
        return True
    config = folder / "config.json"
    return config.is_file() and json.loads(config.read_text()).get("_class_name") == "BaselineModel"


def open_learned(
    folder: Path,
    encoder: TextEncoder,
    spec: BaseModelSpec,
    rank: int,
    *,
    steps: int | None = None,
) -> TrainedBaseline | TrainedGenerator:
    """What lies in a folder for which `is_learned` holds."""
    if (folder / "model_index.json").is_file():
        return TrainedGenerator(folder, spec, rank, steps=steps)
    return TrainedBaseline(folder, encoder, spec)
