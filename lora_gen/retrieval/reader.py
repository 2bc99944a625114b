"""Many adapters of a corpus through an encoder at once.

Shapes: B adapters, T modules of a corpus, D projected features, E embedding width, S width of what
quality reads.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lora_gen.models.adapter_encoder import AdapterEncoder, ModuleSet
from lora_gen.retrieval.corpus import Corpus
from lora_gen.retrieval.encoder import slots_of
from lora_gen.retrieval.fit import modules_of, stacked_modules
from lora_gen.retrieval.texts import TextBank

_AT_ONCE, _ROWS = 128, 4096


class CorpusReader:
    """An encoder before a corpus; its buffers must not change any more.

    Args:
        model: The encoder.
        corpus: Features seen through the encoder's frames.
        entries: Those that will be read; all of them by default.
    """

    def __init__(
        self, model: AdapterEncoder, corpus: Corpus, entries: Sequence[int] | None = None
    ) -> None:
        self.model, self.corpus = model, corpus
        self.slots = slots_of(model, corpus.roles, corpus.side)
        self.content = self._project(range(len(corpus)) if entries is None else entries)

    @torch.no_grad()
    def _project(self, entries: Sequence[int]) -> Tensor:
        content_TD = torch.zeros(len(self.slots), self.model.config.token_dim, dtype=torch.half)
        rows_T = torch.cat([modules_of(self.corpus, entry) for entry in entries])
        for own_T in torch.split(rows_T, _ROWS):
            found = self.model.project(self.corpus.sketches[own_T].float(), self.slots[own_T])
            content_TD[own_T] = found.half()
        return content_TD

    def modules(self, entries: Sequence[int]) -> ModuleSet:
        """Entries of the corpus as the network reads them."""
        return stacked_modules(self.corpus, entries, self.content, self.slots)

    @torch.no_grad()
    def embed(
        self, entries: Sequence[int], agreement_B: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(vectors (B, E), what quality reads (B, S)) of entries."""
        device = next(self.model.parameters()).device
        vectors, inputs = [], []
        for start in range(0, len(entries), _AT_ONCE):
            chosen = slice(start, start + _AT_ONCE)
            modules = self.modules(entries[chosen]).to(device)
            summary = self.model.summary(modules)
            known = None if agreement_B is None else agreement_B[chosen]
            vectors.append(self.model.embed(modules, summary))
            inputs.append(self.model.quality_input(summary, modules, known))
        return torch.cat(vectors), torch.cat(inputs)

    @torch.no_grad()
    def embed_texts(self, texts: TextBank, rows: Sequence[int]) -> Tensor:
        """Vectors of texts, (T, E)."""
        device = next(self.model.parameters()).device
        parts = []
        for start in range(0, len(rows), _AT_ONCE):
            states, mask = texts.padded(rows[start : start + _AT_ONCE])
            parts.append(self.model.embed_texts(states.to(device), mask.to(device)))
        return torch.cat(parts)

    def agreement(self, texts: TextBank, entries: Sequence[int], vectors_BE: Tensor) -> Tensor:
        """Inner product of each vector with its task's first text; NaN without one, (B,)."""
        first = {task: rows[0] for task, rows in texts.rows.items()}
        rows = [first.get(self.corpus.tasks[entry], -1) for entry in entries]
        known = [i for i, row in enumerate(rows) if row >= 0]
        found = vectors_BE.new_full((len(entries),), torch.nan)
        if known:
            text_TE = self.embed_texts(texts, [rows[i] for i in known])
            found[known] = (vectors_BE[known] * text_TE).sum(1)
        return found
