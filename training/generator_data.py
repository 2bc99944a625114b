"""Micro-batches of the generator: what is asked, and the lines that say whether it was done."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lora_gen.adapter.base_model import BaseModelSpec
from lora_gen.conditioning.chat import Chat, Lines
from lora_gen.conditioning.condition import (
    Condition,
    base_condition,
    encode_examples,
    encode_prompts,
)
from lora_gen.conditioning.examples import ExampleReader
from training.ambiguity import Ambiguity
from training.behavior_data import BehaviorRecord, TextStateCache, ZooTokens
from training.generator_config import ObjectiveConfig
from training.order import batch_positions, derive_seed
from training.task import TaskContext

MAX_SHOWN = 8
"""Examples that a row is shown at most."""
Pair = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Readers:
    """What reads texts and lines, none of it trained."""

    texts: TextStateCache
    """Encoded descriptions."""
    chat: Chat | None
    """How the base is asked, if it is asked in words."""
    spec: BaseModelSpec
    """The base."""
    examples: ExampleReader | None = None
    """Reads examples through the base, if the network reads such states."""


class GeneratorData:
    """Everything a batch is made of.

    Args:
        records: Tasks to train on; one named twice comes twice as often.
        goal: The shares of what is shown.
        readers: What reads them.
        context: Seed and batch size.
        zoo_tokens: Tokens of adapters, where there is a zoo.
        ambiguity: Descriptions that fit several tasks, if any.
    """

    def __init__(
        self,
        records: Sequence[BehaviorRecord],
        goal: ObjectiveConfig,
        *,
        readers: Readers,
        context: TaskContext,
        zoo_tokens: ZooTokens | None = None,
        ambiguity: Ambiguity | None = None,
    ) -> None:
        self.records, self.goal, self.readers, self.context = records, goal, readers, context
        self.zoo_tokens, self.ambiguity = zoo_tokens, ambiguity
        self._lines: dict[Pair, tuple[list[int], int]] = {}

    def batch(self, index: int) -> dict[str, Any]:
        """Micro-batch `index`: conditions, lines, and zoo tokens where there are any.

        The rows of clear requests come first, then each ambiguous one once for every candidate.
        """
        seed, goal = self.context.seed, self.goal
        positions = batch_positions(
            index, batch_size=self.context.batch_size, length=len(self.records), seed=seed
        )
        rng = random.Random(derive_seed(seed, "batch", index))
        # The same for neighbors, so that parallel processes have equal work and none waits.
        shared = random.Random(derive_seed(seed, "shape", index // 8))
        records = [self.records[i] for i in positions.tolist()]
        rows = [self._row(record, rng) for record in records]
        batch: dict[str, Any] = {
            "rank": shared.choice(goal.ranks),
            "levels": _levels(shared, goal.sampler_steps),
        }
        batch |= self.work(records, rng)
        if self.ambiguity is not None:
            count = goal.readings.candidates
            drawn = [
                self.ambiguity.draw(rng, goal.readings.lines) for _ in range(goal.readings.rows)
            ]
            rows += [(text, [], []) for text, _ in drawn for _ in range(count)]
            packed = self.pack(
                [p for _, found in drawn for _ in range(count) for part in found for p in part]
            )
            batch |= {"open_input_ids": packed.input_ids, "open_labels": packed.labels}
        batch["condition"] = self._condition(rows)
        if self.zoo_tokens is not None:
            batch["tokens"], batch["rows"] = self.zoo_tokens.batch([r.task for r in records], index)
        return batch

    def work(self, records: Sequence[BehaviorRecord], rng: random.Random) -> dict[str, Tensor]:
        """What the adapters of clear requests are tried on: lines, adapter-major."""
        count = self.goal.lines_per_task
        packed = self.pack([pair for r in records for pair in rng.sample(r.examples, count)])
        return {"input_ids": packed.input_ids, "labels": packed.labels}

    def pack(self, pairs: Sequence[Pair]) -> Lines:
        """Lines of the base's chat, tokenized once."""
        chat = self.readers.chat
        assert chat is not None  # only a base that is asked in words has lines
        for pair in pairs:
            if pair not in self._lines:
                self._lines[pair] = chat.line(*pair)
        return chat.pack([self._lines[pair] for pair in pairs])

    def _row(
        self, record: BehaviorRecord, rng: random.Random
    ) -> tuple[str | None, list[str], list[Pair]]:
        """(text or none, prompts, examples) of one clear request."""
        goal = self.goal
        text: str | None = rng.choice(record.descriptions)
        if rng.random() < goal.drop_text:
            text = None
        shown = rng.random() < (0.7 if text is None else goal.show_examples)
        if (
            self.ambiguity is not None
            and text is not None
            and rng.random() < goal.readings.vague_share
        ):
            # a vague text beside examples: the examples must say which task is meant
            vague = self.ambiguity.description_of(record.task, rng)
            text, shown = (vague, True) if vague is not None else (text, shown)
        most = MAX_SHOWN if self.readers.examples is not None else 4
        examples = rng.sample(record.examples, rng.randint(1, most)) if shown else []
        asked = rng.random() < goal.show_prompts
        prompts = [a for a, _ in rng.sample(record.examples, rng.randint(1, 4))] if asked else []
        return text, prompts, examples

    def _condition(self, rows: Sequence[tuple[str | None, list[str], list[Pair]]]) -> Condition:
        texts, prompts, examples = zip(*rows, strict=True)
        # a row without text borrows another's states and masks them
        filler = next((text for text in texts if text is not None), "nothing")
        states, mask = self.readers.texts.batch(
            [text if text is not None else filler for text in texts]
        )
        mask = mask & torch.tensor([text is not None for text in texts])[:, None]
        reader = self.readers.examples
        read = reader.encode(examples) if reader is not None else (None, None)
        return Condition(
            text_states=states,
            text_mask=mask,
            prompt_bytes=encode_prompts(prompts),
            example_bytes=encode_examples(examples),
            base_features=base_condition(self.readers.spec, len(rows)),
            example_states=read[0],
            example_mask=read[1],
        )


def _levels(rng: random.Random, steps: int) -> list[float]:
    """Levels of a path of up to `steps` equal steps from 1 to a random level.

    Trained at the levels of one step count alone, the network writes garbage at any other.
    """
    count = rng.randrange(steps)
    last = rng.uniform(0.02, 1.0)
    return [1.0 - (1.0 - last) * i / count for i in range(count + 1)] if count else [1.0]
