"""Solved examples, as the frozen base itself reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lora_gen.conditioning.chat import Chat
from lora_gen.conditioning.condition import MAX_ITEMS, encode_examples
from lora_gen.errors import ConditionError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

GROUP = 4
"""Examples that the base reads in one context; more are read in further ones."""
NUM_LAYERS = 3
POSITIONS = 2
"""Where an answer is about to begin, and where it has ended."""

Pair = tuple[str, str]


def example_width(hidden_size: int) -> int:
    """Width W of the states of a base."""
    return NUM_LAYERS * POSITIONS * hidden_size


class ExampleReader:
    """Hidden states of a base that sees the examples one after another.

    A base that can learn from its context has worked out the task by the second or third example;
    where the next answer is about to begin, its states say which task that is (function vectors:
    Todd et al., arXiv 2310.15213). A generator that reads them need not learn to infer tasks.

    Args:
        model: A frozen causal language model.
        chat: How it is asked.
    """

    def __init__(self, model: PreTrainedModel, chat: Chat) -> None:
        self.model, self.chat = model, chat
        depth = int(model.config.num_hidden_layers)
        # the middle, three quarters and the end: half-way up a base knows the task
        shares = [(i + 1) / (NUM_LAYERS + 1) for i in range(1, NUM_LAYERS + 1)]
        self.layers = tuple(max(1, round(depth * share)) for share in shares)
        self.limit = int(getattr(model.config, "max_position_embeddings", 0) or 2**31)

    @property
    def width(self) -> int:
        """W."""
        return example_width(int(self.model.config.hidden_size))

    @torch.no_grad()
    def encode(self, rows: Sequence[Sequence[Pair]]) -> tuple[Tensor, Tensor]:
        """(states (B, P, W), mask (B, P)); a row without examples is all False.

        Raises:
            ConditionError: A row has too many pairs, or one pair is longer than the base's context.
        """
        encode_examples(rows)  # the checks of the request are the same for every reader
        device = next(self.model.parameters()).device
        most = max(1, max((len(row) for row in rows), default=1))
        states = torch.zeros(len(rows), min(most, MAX_ITEMS), self.width, device=device)
        mask = torch.zeros(states.shape[:2], dtype=torch.bool, device=device)
        groups = [
            (row, place, found)
            for row, pairs in enumerate(rows)
            for place, found in self._groups(pairs)
        ]
        if not groups:
            return states, mask
        width = max(ends[-1] for _, _, (_, _, ends) in groups)
        ids = torch.full((len(groups), width), self.chat.pad_id)
        for i, (_, _, (tokens, _, ends)) in enumerate(groups):
            ids[i, : ends[-1]] = torch.tensor(tokens[: ends[-1]])
        out: Any = self.model(input_ids=ids.to(device), output_hidden_states=True, use_cache=False)
        layers = torch.cat([out.hidden_states[layer] for layer in self.layers], -1).float()
        for i, (row, place, (_, starts, ends)) in enumerate(groups):
            for j, (start, end) in enumerate(zip(starts, ends, strict=True)):
                states[row, place + j] = torch.cat([layers[i, start - 1], layers[i, end - 1]])
                mask[row, place + j] = True
        return states, mask

    def _groups(
        self, pairs: Sequence[Pair]
    ) -> Iterator[tuple[int, tuple[list[int], list[int], list[int]]]]:
        """(place of its first pair, (token ids, answers' starts, answers' ends)) of contexts."""
        place = 0
        while place < len(pairs):
            size = min(GROUP, len(pairs) - place)
            found = self.chat.shots(pairs[place : place + size])
            while found[2][-1] > self.limit and size > 1:
                size -= 1
                found = self.chat.shots(pairs[place : place + size])
            if found[2][-1] > self.limit:
                raise ConditionError(
                    f"`examples` has a pair of {found[2][-1]} tokens, but the base reads "
                    f"{self.limit}. Shorten it."
                )
            yield place, found
            place += size
