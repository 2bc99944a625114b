"""What the base and the zoo's lenses make of a criterion's sentences, computed once."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from lora_gen.adapter.stacked import StackedFactors
from lora_gen.evaluation.embedding import Embedder
from lora_gen.files import atomic_write_bytes
from training.behavior_data import BehaviorRecord

_AT_ONCE = 64


class KnownSentences:
    """Sentences of criteria, kept from the first time that they are asked for.

    Args:
        embedder: The frozen base.
        teacher: Finds the factors of a criterion's lens.
        cache: Folder where states are kept between runs.
    """

    def __init__(
        self,
        embedder: Embedder,
        teacher: Callable[[BehaviorRecord], StackedFactors],
        cache: Path,
    ) -> None:
        self.embedder, self.teacher, self.cache = embedder, teacher, cache
        self._states: dict[str, Tensor] = {}
        self._vectors: dict[str, Tensor] = {}

    def states(self, record: BehaviorRecord) -> tuple[Tensor, ...]:
        """States (L, E) of each sentence in front of the first adapted block, without padding."""
        texts = tuple(text for text, _ in record.examples)  # several criteria may share some
        if not all(text in self._states for text in texts):
            self._states |= zip(texts, self._read(texts), strict=True)
        return tuple(self._states[text] for text in texts)

    @torch.no_grad()
    def vectors(self, record: BehaviorRecord) -> Tensor:
        """Unit vectors (P, E) of the sentences under the criterion's own lens."""
        if record.task not in self._vectors:
            factors, states = self.teacher(record), self.states(record)
            parts = [states[i : i + _AT_ONCE] for i in range(0, len(states), _AT_ONCE)]
            found = [self.embedder.vectors_from(part, factors) for part in parts]
            self._vectors[record.task] = torch.cat(found)
        return self._vectors[record.task]

    def _read(self, texts: tuple[str, ...]) -> tuple[Tensor, ...]:
        """What the base makes of texts, from the cache if it is there."""
        own = f"{texts}{self.embedder.spec.config_hash}{self.embedder.encoder.model.dtype}"
        path = self.cache / f"{blake2b(own.encode(), digest_size=12).hexdigest()}.safetensors"
        if path.is_file():
            found = load_file(path)
            return torch.split(found["states"], found["lengths"].tolist())
        states = self.embedder.read(texts)
        tensors = {"states": torch.cat(states), "lengths": torch.tensor([*map(len, states)])}
        self.cache.mkdir(parents=True, exist_ok=True)
        atomic_write_bytes(path, save(tensors))
        return tuple(states)
