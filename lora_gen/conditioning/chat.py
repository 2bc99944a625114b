"""Inputs and answers as token ids: the tokenizer's own chat template says how to ask a base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lora_gen.adapter.base_model import resolve_base
from lora_gen.errors import BaseModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

IGNORE = -100
"""Label of tokens that carry no loss (the default of PyTorch's cross entropy)."""


@dataclass(frozen=True, kw_only=True)
class Lines:
    """A batch of questions with answers, right-padded, so that a causal base needs no mask."""

    input_ids: Tensor
    """(B, T) int64."""
    labels: Tensor
    """The answer's tokens, IGNORE elsewhere; (B, T)."""


class Chat:
    """How one base is asked: a user turn is the input, an assistant turn the output.

    Raises:
        BaseModelError: The tokenizer has no chat template.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if not tokenizer.chat_template:
            raise BaseModelError(
                f"`{tokenizer.name_or_path}` has no chat template, so there is no way to ask this "
                "base. Set `tokenizer.chat_template` and save the tokenizer beside the base."
            )
        self.tokenizer = tokenizer
        pad = (
            tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        )
        self.pad_id = int(pad)

    def question(self, text: str, shots: Sequence[tuple[str, str]] = ()) -> list[int]:
        """Token ids up to where the answer begins, after `shots` solved examples."""
        turns = [turn for pair in shots for turn in _turns(*pair)]
        return self._ids([*turns, {"role": "user", "content": text}], add_generation_prompt=True)

    def line(self, text: str, answer: str) -> tuple[list[int], int]:
        """(token ids of question and answer, index where the answer begins)."""
        start = len(self.question(text))
        return self._ids(_turns(text, answer), add_generation_prompt=False), start

    def shots(self, pairs: Sequence[tuple[str, str]]) -> tuple[list[int], list[int], list[int]]:
        """(token ids of solved examples in a row, where each answer begins, where it has ended)."""
        starts = [len(self.question(text, pairs[:i])) for i, (text, _) in enumerate(pairs)]
        turns = [turn for pair in pairs for turn in _turns(*pair)]
        ends = [
            len(self._ids(turns[: 2 * i + 2], add_generation_prompt=False))
            for i in range(len(pairs))
        ]
        return self._ids(turns, add_generation_prompt=False), starts, ends

    def pack(self, lines: Sequence[tuple[list[int], int]]) -> Lines:
        """Lines as one padded batch."""
        width = max(len(ids) for ids, _ in lines)
        input_ids = torch.full((len(lines), width), self.pad_id)
        labels = torch.full((len(lines), width), IGNORE)
        for i, (ids, start) in enumerate(lines):
            row = torch.tensor(ids)
            input_ids[i, : len(ids)] = row
            labels[i, start : len(ids)] = row[start:]
        return Lines(input_ids=input_ids, labels=labels)

    def _ids(self, turns: list[dict[str, str]], *, add_generation_prompt: bool) -> list[int]:
        text: Any = self.tokenizer.apply_chat_template(
            turns, add_generation_prompt=add_generation_prompt, tokenize=False
        )
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])


def load_causal_lm(folder: str | Path) -> tuple[PreTrainedModel, Chat]:
    """A frozen base and its chat, from a folder, an embedded id or a hub id.

    Raises:
        BaseModelError: There is no causal language model.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = resolve_base(str(folder))
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            path, use_safetensors=True, trust_remote_code=False
        )
        tokenizer: Any = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise BaseModelError(
            f"`{folder}` is not a causal language model that Transformers can load: {error}"
        ) from error
    return model.eval().requires_grad_(False), Chat(tokenizer)


def _turns(text: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]
