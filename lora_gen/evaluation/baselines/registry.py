"""The baselines by name or folder, each ready to answer texts with adapters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.base_model import BaseModelSpec
from lora_gen.codec.codec import AdapterCodec
from lora_gen.codec.layout import TokenLayout
from lora_gen.conditioning.chat import Chat
from lora_gen.errors import ConfigError
from lora_gen.evaluation.baselines.gaussian import TokenGaussian
from lora_gen.evaluation.baselines.learned import is_learned, open_learned
from lora_gen.evaluation.baselines.mean import mean_adapter
from lora_gen.evaluation.baselines.multi_task import multi_task_adapter
from lora_gen.evaluation.baselines.nearest import NearestText
from lora_gen.evaluation.baselines.noise import LEVELS, noisy
from lora_gen.evaluation.baselines.ridge import KernelRidge
from lora_gen.evaluation.baselines.soup import text_soups
from lora_gen.pipeline import LoraGenPipeline
from lora_gen.zoo.store import Zoo

MEAN, NEAREST, GAUSSIAN = "mean LoRA", "nearest text", "Gaussian"
RIDGE, RIDGE_SIZED = "kernel ridge", "kernel ridge at full size"
SOUPS = {f"soup of {count}": count for count in (4, 16)}
NOISES = {f"nearest + {level:g} noise": level for level in LEVELS}
MULTI_TASK = "multi-task LoRA told the text"
DEFAULT = (MEAN, NEAREST)
ALL = (*DEFAULT, *SOUPS, RIDGE, RIDGE_SIZED, *NOISES, GAUSSIAN, MULTI_TASK)

Texts = Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """A way to get adapters for texts without a generator."""

    name: str
    adapters: Callable[[Texts, int], list[Adapter]]
    """(texts, seed) -> one adapter a text."""
    parameters: int
    """Values it has to keep."""
    told: bool = False
    """Whether its base reads the description before every input."""


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What baselines are made from, each part made at first use."""

    zoo: Zoo
    ids: Sequence[str]
    """Entries that may be learned from."""
    pipe: LoraGenPipeline
    spec: BaseModelSpec
    rank: int
    model: nn.Module
    """The frozen base."""
    chat: Chat

    @cached_property
    def mean(self) -> Adapter:
        """The zoo's mean."""
        return mean_adapter(self.zoo, self.ids, rank=self.rank)

    @cached_property
    def nearest(self) -> NearestText:
        """The zoo, searched by the generator's own text encoder."""
        return NearestText(self.zoo, self.ids, self.pipe.encoder)

    @cached_property
    def ridge(self) -> KernelRidge:
        """Text to delta weight."""
        return KernelRidge(self.zoo, self.nearest, rank=self.rank)

    @cached_property
    def gaussian(self) -> TokenGaussian:
        """The zoo's spread in the generator's own tokens."""
        config = self.pipe.denoiser.config
        layout = TokenLayout.build(self.spec, rank=self.rank, width=config.token_width)
        scaling = self.pipe.denoiser.token_scaling
        return TokenGaussian(self.zoo, self.ids, AdapterCodec(layout=layout, scaling=scaling))

    @cached_property
    def multi_task(self) -> Adapter:
        """One LoRA for everything."""
        return multi_task_adapter(
            self.model, self.chat, self.spec, self.zoo, self.ids, rank=self.rank
        )

    def near(self, texts: Texts) -> list[Adapter]:
        """The nearest description's adapter for each text."""
        return [self.zoo.load(entry_id) for entry_id in self.nearest.ids_of(texts)]

    def noisy(self, texts: Texts, seed: int, level: float) -> list[Adapter]:
        """The nearest adapters, each with noise of its own."""
        source = torch.Generator().manual_seed(seed)
        return [noisy(adapter, level, source) for adapter in self.near(texts)]

    def draws(self, count: int, seed: int) -> list[Adapter]:
        """Adapters from the Gaussian."""
        source = torch.Generator().manual_seed(seed)
        like = {"base": self.spec.id, "task_type": self.spec.task_type}
        return [self.gaussian.draw(source, **like) for _ in range(count)]

    @cached_property
    def size(self) -> int:
        """Values of the whole zoo, which a method that searches it has to keep."""
        return len(self.ids) * self.mean.num_parameters


def build_baselines(names: Sequence[str], sources: Sources) -> list[Baseline]:
    """The named baselines, in the order of `ALL`, then those that lie trained in folders.

    Raises:
        ConfigError: A name is unknown and no folder of a trained baseline or generator.
    """
    folders = [name for name in names if name not in ALL and is_learned(Path(name))]
    unknown = sorted(set(names) - {*ALL, *folders})
    if unknown:
        raise ConfigError(
            f"`{unknown[0]}` is not a baseline. There are: {', '.join(ALL)}. Or pass `all`, or the "
            "folder of a trained one."
        )
    named = [_build(name, sources) for name in ALL if name in names]
    return named + [learned_baseline(Path(folder), sources) for folder in folders]


def learned_baseline(
    folder: Path,
    sources: Sources,
    *,
    name: str | None = None,
    rank: int | None = None,
    steps: int | None = None,
) -> Baseline:
    """A trained baseline or generator, in the same terms as the others.

    Args:
        folder: Where it was saved.
        sources: The text encoder and the base.
        name: What reports call it; by default its folder's name, or its run's.
        rank: Rank of a generator's adapters; by default that of the sources.
        steps: Sampler steps of a generator.

    Raises:
        ConfigError: It reads another text encoder.
    """
    encoder, spec = sources.pipe.encoder, sources.spec
    found = open_learned(folder, encoder, spec, rank or sources.rank, steps=steps)
    return Baseline(
        name=name or (folder.parent.name if folder.name == "final" else folder.name),
        adapters=found.adapters,
        parameters=found.parameters,
        told=found.told,
    )


def _build(name: str, sources: Sources) -> Baseline:
    def mean(texts: Texts, seed: int) -> list[Adapter]:
        return [sources.mean] * len(texts)

    def soup(texts: Texts, seed: int) -> list[Adapter]:
        return text_soups(sources.zoo, sources.nearest, texts, count=SOUPS[name], rank=sources.rank)

    ways: dict[str, Callable[[Texts, int], list[Adapter]]] = {
        MEAN: mean,
        NEAREST: lambda texts, seed: sources.near(texts),
        RIDGE: lambda texts, seed: sources.ridge.adapters(texts),
        RIDGE_SIZED: lambda texts, seed: sources.ridge.full_size(texts),
        GAUSSIAN: lambda texts, seed: sources.draws(len(texts), seed),
        MULTI_TASK: lambda texts, seed: [sources.multi_task] * len(texts),
        **dict.fromkeys(SOUPS, soup),
        **dict.fromkeys(NOISES, lambda texts, seed: sources.noisy(texts, seed, NOISES[name])),
    }
    one = sources.mean.num_parameters
    sizes = {MEAN: one, GAUSSIAN: 2 * one, MULTI_TASK: one}
    return Baseline(
        name=name,
        adapters=ways[name],
        parameters=sizes.get(name, sources.size),
        told=name == MULTI_TASK,
    )
