"""Zoo entries by description. A weight-space index can replace `TextIndex` behind `search`."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from app.service.models import Models
from app.service.zoo_view import ZooView
from lora_gen.zoo.entry import ZooEntry

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


class Index(Protocol):
    """Whatever finds entries by description."""

    def search(self, text: str, count: int) -> list[Hit]:
        """The nearest entries, best first."""
        ...


class TextIndex:
    """The nearest text over the zoo's descriptions, by cosine of pooled vectors."""

    def __init__(self, models: Models, zoo: ZooView) -> None:
        with models.pipeline() as pipe:
            self._encoder = pipe.encoder
        self._lock = threading.Lock()
        self._owners = [
            (entry, wording) for entry in zoo.entries() for wording in entry.descriptions[:WORDINGS]
        ]
        self._vectors_ME = self._embed([wording for _, wording in self._owners])

    def search(self, text: str, count: int) -> list[Hit]:
        """The nearest entries, best first, each once."""
        if not self._owners:
            return []
        scores_M = (self._embed([text]) @ self._vectors_ME.mT)[0]
        hits: dict[str, Hit] = {}
        for i in scores_M.argsort(descending=True).tolist():
            entry, wording = self._owners[i]
            score = float(scores_M[i])
            hits.setdefault(entry.id, Hit(entry=entry, score=score, wording=wording))
            if len(hits) == count:
                break
        return list(hits.values())

    @torch.no_grad()
    def _embed(self, texts: Sequence[str]) -> Tensor:
        with self._lock:
            parts = [
                self._encoder.pool(self._encoder.encode(texts[start : start + _BATCH]))
                for start in range(0, len(texts), _BATCH)
            ]
        return torch.cat(parts) if parts else torch.zeros(0, self._encoder.width)
