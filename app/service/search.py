"""Zoo entries by description, and which of them a visitor wants to see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from app.service.limits import bounded, one_of, whole
from app.service.models import Models
from app.service.zoo_view import ZooView
from lora_gen.zoo.entry import ZooEntry
from lora_gen.zoo.splits import SPLITS

WORDINGS = 4
"""Descriptions of each entry that are searched."""

_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class Hit:
    """An entry found, and how near it is to what was asked."""

    entry: ZooEntry
    score: float
    """Cosine of the pooled text vectors, -1 to 1."""

    wording: str
    """The description that matched."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which entries a visitor wants to see; the defaults admit all.

    Raises:
        GeneratorError: A bound is unusable.
    """

    split: str | None = None
    max_rank: int | None = None
    min_accuracy: float | None = None
    """Entries that were never measured are left out."""

    def __post_init__(self) -> None:
        if self.split is not None:
            one_of("split", self.split, SPLITS)
        if self.max_rank is not None:
            object.__setattr__(self, "max_rank", whole("max_rank", self.max_rank, 1, 512))
        if self.min_accuracy is not None:
            bounded("min_accuracy", self.min_accuracy, 0, 1)

    @classmethod
    def of(cls, split: Any, max_rank: Any, min_accuracy: Any) -> Wanted:
        """From a form, whose empty fields and zeros bind nothing."""
        return cls(
            split=split or None, max_rank=max_rank or None, min_accuracy=min_accuracy or None
        )

    def admits(self, entry: ZooEntry) -> bool:
        """Whether the entry may be shown."""
        return (
            (self.split is None or entry.split == self.split)
            and (self.max_rank is None or entry.rank <= self.max_rank)
            and (self.min_accuracy is None or (entry.accuracy or 0) >= self.min_accuracy)
        )


ALL = Wanted()


class TextIndex:
    """The nearest text over the zoo's descriptions, by cosine of pooled vectors."""

    def __init__(self, models: Models, zoo: ZooView) -> None:
        self._encoder = models.text_encoder()
        self._owners = [
            (entry, wording) for entry in zoo.entries() for wording in entry.descriptions[:WORDINGS]
        ]
        self._vectors_ME = self._embed([wording for _, wording in self._owners])

    def search(self, text: str, count: int, wanted: Wanted = ALL) -> list[Hit]:
        """The nearest entries, best first, each once."""
        if not self._owners:
            return []
        scores_M = (self._embed([text]) @ self._vectors_ME.mT)[0]
        hits: dict[str, Hit] = {}
        for i in scores_M.argsort(descending=True).tolist():
            entry, wording = self._owners[i]
            if not wanted.admits(entry):
                continue
            score = float(scores_M[i])
            hits.setdefault(entry.id, Hit(entry=entry, score=score, wording=wording))
            if len(hits) == count:
                break
        return list(hits.values())

    @torch.no_grad()
    def _embed(self, texts: Sequence[str]) -> Tensor:
        parts = [
            self._encoder.pool(self._encoder.encode(texts[start : start + _BATCH]))
            for start in range(0, len(texts), _BATCH)
        ]
        return torch.cat(parts) if parts else torch.zeros(0, self._encoder.width)
