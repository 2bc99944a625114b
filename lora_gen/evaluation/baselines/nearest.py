"""A zoo searched by text: the entries whose descriptions are nearest to a request."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lora_gen.conditioning.text import TextEncoder
from lora_gen.zoo.store import Zoo

_WORDINGS = 4
"""Descriptions of each entry that are searched; more cost minutes and find hardly anything else."""


class NearestText:
    """The zoo's entries by the cosine of pooled text vectors.

    Shapes: M descriptions, or entries where it says so.
    """

    def __init__(
        self, zoo: Zoo, ids: Sequence[str], encoder: TextEncoder, *, wordings: int = _WORDINGS
    ) -> None:
        self.encoder = encoder
        owners, texts = [], []
        for entry_id in ids:
            for description in zoo.get(entry_id).descriptions[:wordings]:
                owners.append(entry_id)
                texts.append(description)
        self.owners = owners
        self.vectors_ME = self.embed(texts)

    def ids_of(self, texts: Sequence[str]) -> list[str]:
        """Entry ids, one for each text."""
        best = (self.embed(texts) @ self.vectors_ME.mT).argmax(1)
        return [self.owners[i] for i in best.tolist()]

    def neighbors(self, texts: Sequence[str], count: int) -> list[list[tuple[str, float]]]:
        """For each text, at most `count` (entry id, cosine), nearest first.

        An entry counts once, by its nearest wording.
        """
        found = []
        for cosines_M in self.embed(texts) @ self.vectors_ME.mT:
            near: dict[str, float] = {}
            for i in cosines_M.argsort(descending=True).tolist():
                near.setdefault(self.owners[i], float(cosines_M[i]))
                if len(near) == count:
                    break
            found.append(list(near.items()))
        return found

    def entry_vectors(self) -> tuple[list[str], Tensor]:
        """Ids, and for each the unit mean of its wordings' vectors, (M, E) for M entries."""
        ids = list(dict.fromkeys(self.owners))
        rows = torch.tensor([ids.index(owner) for owner in self.owners])
        sums = self.vectors_ME.new_zeros(len(ids), self.vectors_ME.shape[1])
        return ids, torch.nn.functional.normalize(sums.index_add_(0, rows, self.vectors_ME), dim=1)

    def embed(self, texts: Sequence[str]) -> Tensor:
        """Pooled unit vectors, one a text."""
        order = sorted(
            range(len(texts)), key=lambda i: len(texts[i])
        )  # equal lengths waste no padding
        rows: list[Tensor] = []
        for start in range(0, len(order), 256):
            states = self.encoder.encode([texts[i] for i in order[start : start + 256]])
            rows.append(self.encoder.pool(states))
        vectors = torch.cat(rows)
        return vectors[torch.tensor(order).argsort()]
