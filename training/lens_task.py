"""Train the generator for an embedding base: sentences and their values take the place of lines."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lora_gen.adapter.stacked import StackedFactors
from lora_gen.evaluation.embedding import Embedder
from lora_gen.evaluation.lens_fitting import contrastive_loss
from lora_gen.evaluation.lens_measures import mean_average_precision
from training.behavior_data import BehaviorRecord
from training.generator_config import GeneratorTaskConfig
from training.generator_data import GeneratorData, Readers
from training.generator_task import GeneratorTask
from training.lens_objectives import similarity_loss
from training.task import TaskContext

_MEASURED, _SENTENCES, _STACK = 32, 32, 8
"""Criteria, sentences of each and lenses at once in an evaluation."""


@dataclass(frozen=True, kw_only=True)
class LensTaskConfig(GeneratorTaskConfig):
    """As for a language model; examples are (sentence, value)."""

    temperature: float = 0.1
    """Divides cosines in both behavior losses."""
    base_dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the frozen base's weights; bfloat16 is about twice as fast where the CPU has it."""


class LensData(GeneratorData):
    """Batches whose work is to tell labeled sentences apart.

    Args:
        embedder: Whose tokens sentences become.
        args: As in `GeneratorData`.
        shared: Likewise.
    """

    def __init__(self, *args: Any, embedder: Embedder, **shared: Any) -> None:
        super().__init__(*args, **shared)
        self.embedder = embedder

    def work(self, records: Sequence[BehaviorRecord], rng: random.Random) -> dict[str, Tensor]:
        """Sentences of each record and the numbers of their values, adapter-major."""
        drawn = [rng.sample(record.examples, self.goal.lines_per_task) for record in records]
        ids, mask = self.embedder.tokens([text for part in drawn for text, _ in part])
        return {"input_ids": ids, "mask": mask, "labels": torch.stack([*map(_numbers, drawn)])}


class LensGeneratorTask(GeneratorTask):
    """See `training.task.Task`.

    `behavior: labels` draws sentences of one value together, `distill` copies the similarities that
    the zoo's lens sees.
    """

    config: LensTaskConfig

    def open_base(self) -> None:
        """The frozen embedding model."""
        dtype = getattr(torch, self.config.base_dtype)
        self.embedder = Embedder.from_pretrained(self.config.base, dtype=dtype)
        self.embedder.encoder.to(self.context.device)

    def build_data(self) -> GeneratorData:
        """Batches of labeled sentences."""
        return LensData(
            self.records,
            self.config.objective,
            readers=Readers(texts=self.texts, chat=None, spec=self.spec),
            context=self.context,
            zoo_tokens=self.zoo_tokens,
            embedder=self.embedder,
        )

    def _behavior(
        self, factors: dict[str, tuple[Tensor, Tensor]], batch: dict[str, Any], adapters: int
    ) -> Tensor:
        temperature, own = self.config.temperature, self._vectors(batch, factors)
        if self.config.objective.behavior == "labels":
            return contrastive_loss(own, batch["labels"], temperature).mean()
        teacher = self.codecs[max(self.codecs)].factors(batch["tokens"])
        with torch.no_grad():
            known = self._vectors(batch, teacher)
        return similarity_loss(own, known, temperature).mean()

    def _vectors(self, batch: dict[str, Any], factors: StackedFactors) -> Tensor:
        """Unit vectors of each lens's sentences, (B, P, E)."""
        vectors_NE = self.embedder.vectors_of(batch["input_ids"], batch["mask"], factors)
        return vectors_NE.view(*batch["labels"].shape, -1)

    @torch.no_grad()
    def evaluate(self, model: nn.Module, step: int) -> Mapping[str, float]:
        """Mean average precision of text-only lenses, seen criteria and validation."""
        denoiser: Any = model.denoiser
        return {
            "map_seen": self._precision(denoiser, self.records),
            "map_validation": self._precision(denoiser, self.validation),
        }

    def _precision(self, denoiser: Any, records: list[BehaviorRecord]) -> float:
        chosen = random.Random(0).sample(records, min(_MEASURED, len(records)))
        found = []
        for start in range(0, len(chosen), _STACK):
            part = chosen[start : start + _STACK]
            count = min(_SENTENCES, *(len(record.examples) for record in part))
            shown = [record.examples[-count:] for record in part]
            ids, mask = self.embedder.tokens([text for rows in shown for text, _ in rows])
            vectors_NE = self.embedder.vectors_of(ids, mask, self.generate(denoiser, part))
            parts = vectors_NE.cpu().view(len(part), count, -1)
            for vectors_PE, rows in zip(parts, shown, strict=True):
                found.append(mean_average_precision(vectors_PE, [value for _, value in rows]))
        return sum(found) / len(found)


def _numbers(rows: Sequence[tuple[str, str]]) -> Tensor:
    known = {value: number for number, value in enumerate(dict.fromkeys(v for _, v in rows))}
    return torch.tensor([known[value] for _, value in rows])


def build_lens_task(config: LensTaskConfig, context: TaskContext) -> LensGeneratorTask:
    """The lens generator's task of a recipe."""
    return LensGeneratorTask(config, context)
