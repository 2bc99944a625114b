"""Token states of many texts by the task they describe, computed once.

Shapes: T texts, K tokens of a text, C their width, G segments.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from lora_gen.conditioning.text import TextEncoder
from lora_gen.errors import ConfigError
from lora_gen.files import atomic_write_bytes
from lora_gen.models.text_tower import segment_pool

_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True)
class TextBank:
    """States of texts, flat over tokens; text t owns `offsets[t]` to `offsets[t + 1]`."""

    states: Tensor
    """(tokens, C) float16."""
    offsets: Tensor
    """(texts + 1,) int64."""
    tasks: tuple[str, ...]
    """The task that each text describes."""
    fingerprint: str
    """Of the frozen text encoder."""

    @cached_property
    def rows(self) -> dict[str, list[int]]:
        """Task -> its texts, in the order they were given."""
        found: dict[str, list[int]] = {}
        for row, task in enumerate(self.tasks):
            found.setdefault(task, []).append(row)
        return found

    def padded(self, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """States (T, K, C) float32 and mask (T, K) of some texts."""
        parts = [self.states[self.offsets[row] : self.offsets[row + 1]] for row in rows]
        lengths_T = torch.tensor([len(part) for part in parts])
        states_TKC = torch.nn.utils.rnn.pad_sequence(parts, batch_first=True).float()
        return states_TKC, torch.arange(states_TKC.shape[1]) < lengths_T[:, None]

    def pooled(self, rows: Sequence[int], segments: int) -> Tensor:
        """Flat means over texts and their stretches, (T, (1 + G) * C)."""
        chunks = [rows[start : start + _AT_ONCE] for start in range(0, len(rows), _AT_ONCE)]
        parts = [segment_pool(*self.padded(chunk), segments).flatten(1) for chunk in chunks]
        return torch.cat(parts)

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        words = json.dumps({"tasks": self.tasks, "fingerprint": self.fingerprint})
        tensors = {"states": self.states.contiguous(), "offsets": self.offsets}
        atomic_write_bytes(path, save(tensors, metadata={"texts": words}))

    @classmethod
    def load(cls, path: Path) -> TextBank:
        """The bank in a file.

        Raises:
            ConfigError: It is not there, or no bank.
        """
        try:
            with safe_open(path, framework="pt") as stream:
                words = json.loads(stream.metadata()["texts"])
                states, offsets = stream.get_tensor("states"), stream.get_tensor("offsets")
            return cls(
                states=states,
                offsets=offsets,
                tasks=tuple(words["tasks"]),
                fingerprint=words["fingerprint"],
            )
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise ConfigError(
                f"`{path}` is not a bank of texts ({error}). Delete it, and it is made again."
            ) from error


def text_bank(
    texts: Mapping[str, Sequence[str]],
    folder: Path,
    *,
    encoder: str,
    progress: Callable[[int, int], None] | None = None,
) -> TextBank:
    """The states of these texts: from their file in `folder`, else computed.

    Args:
        texts: Task -> its descriptions.
        folder: Where the file lies; its name follows from texts and encoder.
        encoder: Name of the frozen text encoder.
        progress: Called with the number of texts done and of all.
    """
    key = json.dumps([encoder, {task: list(found) for task, found in sorted(texts.items())}])
    name = f"texts-{hashlib.blake2b(key.encode(), digest_size=8).hexdigest()}.safetensors"
    if not (folder / name).is_file():
        _compute(texts, encoder, progress).save(folder / name)
    return TextBank.load(folder / name)


def _compute(
    texts: Mapping[str, Sequence[str]], name: str, progress: Callable[[int, int], None] | None
) -> TextBank:
    encoder = TextEncoder.from_pretrained(name)
    flat = [(task, text) for task, found in sorted(texts.items()) for text in found]
    parts: list[Tensor] = [torch.zeros(0)] * len(flat)
    order = sorted(range(len(flat)), key=lambda n: len(flat[n][1]))  # little padding
    for start in range(0, len(order), _AT_ONCE):
        chosen = order[start : start + _AT_ONCE]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            states = encoder.encode([flat[n][1] for n in chosen])
        for n, state_KC, mask_K in zip(chosen, states.states, states.mask, strict=True):
            parts[n] = state_KC[mask_K].half()
        if progress:
            progress(start + len(chosen), len(order))
    lengths = torch.tensor([0, *(len(part) for part in parts)])
    return TextBank(
        states=torch.cat(parts),
        offsets=lengths.cumsum(0),
        tasks=tuple(task for task, _ in flat),
        fingerprint=encoder.fingerprint,
    )
