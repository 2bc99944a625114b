"""What comes of a request: candidates with what is known of each."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.service.downloads import zip_folder
from app.service.generation import GenerateRequest, Sampled
from app.service.models import Models
from app.service.quality import Forecast, QualityPredictor
from app.service.sessions import CancelledError, OwnAdapter, Session
from app.service.zoo_view import Neighbor, ZooView
from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.algebra import norm
from lora_gen.adapter.io import save_adapter
from lora_gen.cli.card import generated_card
from lora_gen.zoo.entry import ZooEntry

COPY_COSINE = 0.98
"""Cosine of delta weights above which two adapters are the same one, up to rounding."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One generated adapter, ready to be tried and taken home."""

    own: OwnAdapter
    zip: Path
    norm: float
    quality: Forecast
    neighbors: tuple[Neighbor, ...]

    @property
    def memorized(self) -> str:
        """How close it is to what the generator learned from, in one sentence."""
        if not self.neighbors:
            return "There is no zoo adapter of this base to compare it with."
        cosine = self.neighbors[0].cosine
        if cosine > COPY_COSINE:
            return f"It is as good as a copy of a zoo adapter: their cosine is {cosine:.2f}."
        return f"It is no copy: the nearest zoo adapter has cosine {cosine:.2f} in weight space."


def says(entry: ZooEntry) -> str:
    """What an entry does, in words."""
    return entry.descriptions[0] if entry.descriptions else entry.task


class Keeper:
    """Makes candidates of what was sampled: files to take home, a forecast, neighbors.

    Args:
        models: Say what a base is made of.
        quality: Forecasts from weights.
        zoo: The zoo of a base; opened at the first use.
    """

    def __init__(
        self, models: Models, quality: QualityPredictor, zoo: Callable[[str], ZooView]
    ) -> None:
        self._models, self._quality, self._zoo = models, quality, zoo

    def keep(
        self,
        session: Session,
        request: GenerateRequest,
        made: Sampled,
        cancelled: threading.Event,
    ) -> list[Candidate]:
        """Every candidate, its folder and zip kept in the session.

        Raises:
            CancelledError: It was cancelled meanwhile; nothing is kept.
        """
        kept: list[Candidate] = []
        pairs = zip(made.adapters, made.records, strict=True)
        for number, (adapter, record) in enumerate(pairs, start=1):
            if cancelled.is_set():
                for candidate in kept:
                    session.drop(candidate.own.id)
                raise CancelledError
            title = _title(request, number)
            kept.append(self._candidate(session, request, adapter, record, title=title))
        return kept

    def _candidate(
        self,
        session: Session,
        request: GenerateRequest,
        adapter: Adapter,
        record: Mapping[str, Any],
        *,
        title: str,
    ) -> Candidate:
        spec = self._models.spec(request.base)
        new, folder = session.new_folder()
        shown = _plain(record)
        save_adapter(
            adapter,
            folder,
            format="diffusers" if spec.kind == "diffusers" else "peft",
            base=spec,
            card=generated_card(spec, shown),
            provenance=shown,
        )
        own = OwnAdapter(
            id=new,
            title=title,
            adapter=adapter,
            folder=folder,
            source="generated",
            task=request.description,
            record=shown,
        )
        session.keep(own)
        return Candidate(
            own=own,
            zip=zip_folder(folder, new),
            norm=norm(adapter),
            quality=self._quality.of(
                adapter, request.description, is_generated=True, record=record
            ),
            neighbors=tuple(self._zoo(request.base).neighbors(adapter, 3)),
        )


def _title(request: GenerateRequest, number: int) -> str:
    text = " ".join((request.description or "from examples").split())
    shown = text if len(text) <= 48 else f"{text[:47]}…"
    return shown if request.candidates == 1 else f"{shown} #{number}"


def _plain(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record for a visitor's file, without where our own files lie."""
    return {**record, "generator": Path(str(record.get("generator", ""))).name}
