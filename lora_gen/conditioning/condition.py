"""What was asked, encoded: text states, prompt bytes, example bytes and base features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from lora_gen.adapter.base_model import BaseModelSpec
from lora_gen.conditioning.base import base_features
from lora_gen.errors import ConditionError

MAX_ITEMS = 16
"""Prompts or examples that are read; more are refused, not dropped."""
MAX_BYTES = 256
"""Bytes of one prompt, or of one example with its separator."""


@dataclass(frozen=True, kw_only=True)
class Condition:
    """An encoded request for a batch of B adapters.

    A part that is None is missing for the whole batch. A row may also miss a part alone: all-False
    mask, all-zero bytes or features.
    """

    text_states: Tensor | None = None
    """Token states of the text encoder, (B, K, C)."""
    text_mask: Tensor | None = None
    """True where a state belongs to the text, (B, K)."""
    prompt_bytes: Tensor | None = None
    """Unlabeled inputs, bytes + 1, 0 is padding; (B, P, L) int64."""
    example_bytes: Tensor | None = None
    """Input, tab, output; as `prompt_bytes`."""
    base_features: Tensor | None = None
    """Features of the base, (B, NUM_BASE_FEATURES)."""
    example_states: Tensor | None = None
    """What the base itself makes of each example, (B, P, W); see `ExampleReader`."""
    example_mask: Tensor | None = None
    """True where a state belongs to an example, (B, P)."""
    latent: Tensor | None = None
    """Which of the adapters that fit is asked for: what all slots' noise has in common, (B, Z)."""

    @property
    def batch_size(self) -> int:
        """B."""
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None:
                return int(value.shape[0])
        return 1

    def null(self, *, text: bool = True, prompts: bool = True, examples: bool = True) -> Condition:
        """The condition without the named parts; the base stays, since every adapter has one."""
        dropped = replace(self)
        if text:
            dropped = replace(dropped, text_states=None, text_mask=None)
        if prompts:
            dropped = replace(dropped, prompt_bytes=None)
        if examples:
            dropped = replace(dropped, example_bytes=None, example_states=None, example_mask=None)
        return dropped

    def expand(self, count: int) -> Condition:
        """Each row repeated `count` times, rows kept together."""
        return self._map(lambda x: x.repeat_interleave(count, 0))

    def to(self, device: torch.device | str) -> Condition:
        """The condition on another device."""
        return self._map(lambda x: x.to(device))

    def _map(self, function: object) -> Condition:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return Condition(**{k: None if v is None else function(v) for k, v in values.items()})  # type: ignore[operator]


def base_condition(spec: BaseModelSpec, batch_size: int) -> Tensor:
    """Features of the base for a batch, (B, NUM_BASE_FEATURES)."""
    return base_features(spec).expand(batch_size, -1)


def encode_prompts(rows: Sequence[Sequence[str]]) -> Tensor:
    """Bytes of unlabeled inputs, one sequence of strings for each row of the batch; (B, P, L).

    Raises:
        ConditionError: A row has too many strings, or a string is empty or too long.
    """
    _require_lists(rows, "prompts")
    return _pack([[_to_bytes(text, "prompts") for text in row] for row in rows], "prompts")


def encode_examples(rows: Sequence[Sequence[tuple[str, str]]]) -> Tensor:
    """Bytes of input, tab, output, one sequence of pairs for each row of the batch; (B, P, L).

    Raises:
        ConditionError: A row has too many pairs, or a pair is empty or too long.
    """
    _require_lists(rows, "examples")
    return _pack([[_pair_bytes(pair) for pair in row] for row in rows], "examples")


def _require_lists(rows: Sequence[object], part: str) -> None:
    for row in rows:
        if isinstance(row, str):
            raise ConditionError(
                f"`{part}` is one string, but must be a list of strings. Wrap it in a list."
            )
        if not isinstance(row, Sequence):
            raise ConditionError(f"`{part}` is a {type(row).__name__}, but must be a list.")


def _pair_bytes(pair: object) -> bytes:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise ConditionError(
            f"`examples` holds {pair!r:.40}, but must hold pairs of input and output."
        )
    if not all(isinstance(text, str) for text in pair):
        raise ConditionError("`examples` holds a pair of other things than two strings.")
    return _to_bytes(f"{pair[0]}\t{pair[1]}", "examples")


def _to_bytes(text: object, part: str) -> bytes:
    if not isinstance(text, str):
        raise ConditionError(
            f"`{part}` holds a {type(text).__name__}, but must hold strings. Convert it first."
        )
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise ConditionError(
            f"`{part}` holds text that is not valid Unicode. Remove the lone surrogate."
        ) from error
    if not data.strip() or len(data) > MAX_BYTES:
        raise ConditionError(
            f"`{part}` holds a line of {len(data)} bytes, but a line must have between 1 and "
            f"{MAX_BYTES}. Shorten or remove it."
        )
    return data


def _pack(rows: Sequence[Sequence[bytes]], part: str) -> Tensor:
    most = max(len(row) for row in rows)
    if most > MAX_ITEMS:
        raise ConditionError(
            f"`{part}` has {most} lines, but at most {MAX_ITEMS} are read. "
            f"Choose {MAX_ITEMS} of them."
        )
    length = max((len(data) for row in rows for data in row), default=1)
    packed = torch.zeros(len(rows), max(1, most), length, dtype=torch.int64)
    for i, row in enumerate(rows):
        for j, data in enumerate(row):
            packed[i, j, : len(data)] = (
                torch.frombuffer(bytearray(data), dtype=torch.uint8).long() + 1
            )
    return packed
