"""Micro-batches of baselines: told lines, a batch of wordings, or nothing but weights."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from lora_gen.evaluation.baselines.multi_task import told
from lora_gen.models.baselines.prompt_decoder import PROMPTS, fixed_length
from training.baseline_config import BY_BEHAVIOR
from training.behavior_data import BehaviorRecord
from training.generator_data import GeneratorData, Pair


class BaselineData(GeneratorData):
    """As a generator's; work that a method does not learn from is left out.

    Args:
        args: As in `GeneratorData`.
        method: Which baseline.
        shared: As in `GeneratorData`.
    """

    def __init__(self, *args: Any, method: str, **shared: Any) -> None:
        super().__init__(*args, **shared)
        self.method = method

    def batch(self, index: int) -> dict[str, Any]:
        """Micro-batch `index`, which knows its number: training in two stages depends on it."""
        return super().batch(index) | {"index": index}

    def work(self, records: Sequence[BehaviorRecord], rng: random.Random) -> dict[str, Tensor]:
        """Lines, the states of several wordings of each task, or nothing."""
        if self.method in BY_BEHAVIOR:
            return super().work(records, rng)
        return {"prompts": self._wordings(records, rng)} if self.method == "prompt_decoder" else {}

    def _row(
        self, record: BehaviorRecord, rng: random.Random
    ) -> tuple[str | None, list[str], list[Pair]]:
        """No text where the base itself is told."""
        if self.method == "multi_task":
            return None, [], []
        return super()._row(record, rng)

    def _wordings(self, records: Sequence[BehaviorRecord], rng: random.Random) -> Tensor:
        """States of up to `PROMPTS` different wordings, repeated where there are fewer.

        A request is one wording, so training sees batches of one to all.
        """
        texts = []
        for record in records:
            most = min(PROMPTS, len(record.descriptions))
            some = rng.sample(record.descriptions, rng.randint(1, most))
            texts += [some[i % len(some)] for i in range(PROMPTS)]
        fixed = fixed_length(*self.readers.texts.batch(texts))
        return fixed.view(-1, PROMPTS, *fixed.shape[1:])


def told_records(records: Iterable[BehaviorRecord], seed: int) -> list[BehaviorRecord]:
    """Tasks whose inputs are told a description of the task, another one each time."""
    rng = random.Random(seed)
    return [
        replace(
            record,
            examples=tuple(
                (told(rng.choice(record.descriptions), a), b) for a, b in record.examples
            ),
        )
        for record in records
    ]
