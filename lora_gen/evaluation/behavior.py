"""A base with and without adapters on inputs: the measured effect, not a prediction of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.stacked import StackedFactors, stack_adapters, stacked_adapters
from lora_gen.conditioning.chat import IGNORE, Lines, load_causal_lm

MAX_NEW_TOKENS = 64


class TaskRunner:
    """Answers inputs with a base, alone or under an adapter, greedily."""

    def __init__(self, base: str | Path) -> None:
        self.model, self.chat = load_causal_lm(base)

    def answer(
        self,
        inputs: Sequence[str],
        adapter: Adapter | None = None,
        *,
        shots: Sequence[tuple[str, str]] = (),
    ) -> list[str]:
        """The base's answers.

        Args:
            inputs: One question each.
            adapter: Applied to the base for these answers; the base itself is not changed.
            shots: Solved examples shown before each input.

        Raises:
            AdapterMismatchError: The adapter targets modules that the base does not have.
        """
        applied = (
            stacked_adapters(self.model, stack_adapters([adapter])) if adapter else nullcontext()
        )
        with applied:
            return [self._greedy(self.chat.question(text, shots)) for text in inputs]

    def stream(self, text: str, adapter: Adapter | None = None) -> Iterator[str]:
        """The growing answer to one input, token by token.

        The adapter is on the base only while a token is computed, so that other answers may be
        asked for between two tokens.
        """
        factors = stack_adapters([adapter]) if adapter else None
        steps = self._steps(self.chat.question(text))
        while True:
            with stacked_adapters(self.model, factors) if factors else nullcontext():
                ids = next(steps, None)
            if ids is None:
                return
            yield self._text(ids)

    def _greedy(self, question: list[int]) -> str:
        answers = list(self._steps(question))
        return self._text(answers[-1] if answers else [])

    @torch.no_grad()
    def _steps(self, question: list[int]) -> Iterator[list[int]]:
        ends = self.model.generation_config.eos_token_id
        stop = set(ends if isinstance(ends, list) else [ends])
        ids, cache, fresh = [], None, torch.tensor([question])
        for _ in range(MAX_NEW_TOKENS):
            out: Any = self.model(input_ids=fresh, past_key_values=cache, use_cache=True)
            token = int(out.logits[0, -1].argmax())
            if token in stop:
                break
            ids.append(token)
            yield ids
            cache, fresh = out.past_key_values, torch.tensor([[token]])

    def _text(self, ids: list[int]) -> str:
        return str(self.chat.tokenizer.decode(ids, skip_special_tokens=True))


@torch.no_grad()
def exact_matches(
    model: torch.nn.Module, lines: Lines, factors: StackedFactors | None = None
) -> Tensor:
    """Whether greedy decoding gives exactly the answer, for each line; (B,) bool.

    One teacher-forced pass: greedy decoding is right exactly if every next-token guess on the right
    answer is right.
    """
    applied = stacked_adapters(model, factors) if factors is not None else nullcontext()
    with applied:
        guesses = model(input_ids=lines.input_ids, use_cache=False).logits[:, :-1].argmax(-1)
    targets = lines.labels[:, 1:]
    hits: Tensor = ((guesses == targets) | (targets == IGNORE)).all(1)
    return hits
