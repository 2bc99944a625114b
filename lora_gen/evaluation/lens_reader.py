"""The same sentences under many lenses: what no lens changes is computed once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.base_model import select_targets
from lora_gen.adapter.stacked import stack_adapters
from lora_gen.evaluation.embedding import Embedder, lens_targets

_AT_ONCE = 48


class LensReader:
    """Embeds like its embedder, several times as fast where texts come again.

    Args:
        embedder: The frozen base.
        keep: Texts that are kept at most; beyond, all are read again.
    """

    def __init__(self, embedder: Embedder, *, keep: int = 4_096) -> None:
        self.embedder, self.keep = embedder, keep
        self._targets = set(select_targets(embedder.spec, lens_targets(embedder.spec)))
        self._read: dict[str, Tensor] = {}

    def forget(self) -> None:
        """Drop the texts read so far."""
        self._read.clear()

    @torch.no_grad()
    def embed(self, texts: Sequence[str], adapter: Adapter | None = None) -> Tensor:
        """Unit vectors (N, E) float32 of texts, with one adapter or none.

        An adapter that changes lower blocks than lenses do is as slow as it ever was.
        """
        if adapter is not None and not self._targets.issuperset(adapter.pairs):
            return self.embedder.embed(texts, adapter)
        if len(self._read) > self.keep:
            self.forget()
        fresh = [text for text in dict.fromkeys(texts) if text not in self._read]
        if fresh:
            self._read |= zip(fresh, self.embedder.read(fresh), strict=True)
        factors = stack_adapters([adapter]) if adapter is not None else None
        order = sorted(range(len(texts)), key=lambda i: len(self._read[texts[i]]))
        found = torch.empty(len(texts), int(self.embedder.encoder.width))
        for start in range(0, len(order), _AT_ONCE):
            rows = order[start : start + _AT_ONCE]
            states = [self._read[texts[i]] for i in rows]
            found[rows] = self.embedder.vectors_from(states, factors).cpu()
        return found
