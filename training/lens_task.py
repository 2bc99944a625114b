"""Train the generator for an embedding base: sentences and their values take the place of lines."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from lora_gen.adapter.base_model import BaseModelSpec
from lora_gen.adapter.stacked import StackedFactors
from lora_gen.evaluation.embedding import Embedder, lens_targets
from lora_gen.evaluation.lens_measures import mean_average_precision
from training.behavior_data import BehaviorRecord, ZooTokens
from training.generator_config import GeneratorTaskConfig
from training.generator_data import GeneratorData, Readers
from training.generator_task import GeneratorTask
from training.lens_objectives import agreement_loss, similarity_loss
from training.lens_sentences import KnownSentences
from training.task import TaskContext

_MEASURED, _SENTENCES, _STACK = 32, 32, 8
"""Criteria, sentences of each and lenses at once in an evaluation."""


@dataclass(frozen=True, kw_only=True)
class LensTaskConfig(GeneratorTaskConfig):
    """As for a language model; examples are (sentence, value)."""

    temperature: float = 0.1
    """Divides cosines where similarities are distilled, as when the zoo was trained."""
    base_dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the frozen base's weights; bfloat16 is about twice as fast where the CPU has it."""


class LensData(GeneratorData):
    """Batches whose work is to tell labeled sentences apart.

    What no lens changes is computed once: a sentence's states below the adapted blocks.

    Args:
        known: What the base and the zoo's lenses make of sentences.
        args: As in `GeneratorData`.
        shared: Likewise.
    """

    def __init__(self, *args: Any, known: KnownSentences, **shared: Any) -> None:
        super().__init__(*args, **shared)
        self.known = known

    def work(self, records: Sequence[BehaviorRecord], rng: random.Random) -> dict[str, Any]:
        """Sentences of each record and the numbers of their values, adapter-major."""
        count = self.goal.lines_per_task
        drawn = [rng.sample(range(len(record.examples)), count) for record in records]
        pairs = [*zip(records, drawn, strict=True)]
        values = [[record.examples[i][1] for i in rows] for record, rows in pairs]
        work: dict[str, Any] = {
            "states": [self.known.states(record)[i] for record, rows in pairs for i in rows],
            "labels": torch.stack([*map(_numbers, values)]),
        }
        if self.goal.behavior == "distill":
            work["teacher"] = torch.stack([self.known.vectors(r)[rows] for r, rows in pairs])
        return work


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
            known=KnownSentences(
                self.embedder, self._teacher, Path(self.config.cache) / "sentences"
            ),
        )

    def _teacher(self, record: BehaviorRecord) -> StackedFactors:
        tokens, _ = cast(ZooTokens, self.zoo_tokens).batch([record.task])
        return self.codecs[max(self.codecs)].factors(tokens)

    def _behavior(
        self, factors: dict[str, tuple[Tensor, Tensor]], batch: dict[str, Any], adapters: int
    ) -> Tensor:
        labels = batch["labels"]
        vectors_NE = self.embedder.vectors_from(batch["states"], factors)
        own_BPE = vectors_NE.view(*labels.shape, -1)
        # not in bfloat16: sentences that lie near to each other would round to one cosine
        with torch.autocast(labels.device.type, enabled=False):
            if self.config.objective.behavior == "labels":
                same_BPP = (labels[:, :, None] == labels[:, None]).float()
                return agreement_loss(own_BPE, same_BPP).mean()
            return similarity_loss(own_BPE, batch["teacher"], self.config.temperature).mean()

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
        found, known = [], cast(LensData, self.data).known
        for start in range(0, len(chosen), _STACK):
            part = chosen[start : start + _STACK]
            count = min(_SENTENCES, *(len(record.examples) for record in part))
            shown = [record.examples[-count:] for record in part]
            states = [one for record in part for one in known.states(record)[-count:]]
            vectors_NE = self.embedder.vectors_from(states, self.generate(denoiser, part))
            parts = vectors_NE.cpu().view(len(part), count, -1)
            for vectors_PE, rows in zip(parts, shown, strict=True):
                found.append(mean_average_precision(vectors_PE, [value for _, value in rows]))
        return sum(found) / len(found)


def _numbers(values: Sequence[str]) -> Tensor:
    known = {value: number for number, value in enumerate(dict.fromkeys(values))}
    return torch.tensor([known[value] for value in values])


def build_lens_task(config: LensTaskConfig, context: TaskContext) -> LensGeneratorTask:
    """The lens generator's task of a recipe; lenses adapt what trained ones do, if none is said."""
    targets = config.targets or lens_targets(BaseModelSpec.from_config(config.base))
    return LensGeneratorTask(replace(config, targets=targets), context)
