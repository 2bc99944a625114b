"""Everything behind the app's buttons, endpoints and tools, with plain values in and out."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from app.service import limits
from app.service.answering import answer_rows, columns_of, common_base
from app.service.downloads import loading_code, zip_folder
from app.service.generation import GenerateRequest, Sampled, Shape, sample
from app.service.inspection import Inspection, examine
from app.service.models import Models
from app.service.reports import Report, read_report
from app.service.retries import Retries
from app.service.search import Hit, Index, TextIndex
from app.service.sessions import CancelledError, OwnAdapter, Session
from app.service.uploads import receive_adapter
from app.service.zoo_view import Neighbor, ZooView
from app.settings import AppConfig
from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.algebra import norm
from lora_gen.adapter.io import save_adapter
from lora_gen.cli.card import generated_card
from lora_gen.errors import ConditionError, ZooError

ZOO_PREFIX = "zoo:"

COPY_COSINE = 0.98
"""Cosine of delta weights above which two adapters are the same one, up to rounding."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One generated adapter, ready to be tried and taken home."""

    own: OwnAdapter
    zip: Path
    norm: float
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


class AppService:
    """The app without its page. Every method may be called by several visitors at once."""

    def __init__(self, config: AppConfig) -> None:
        self.config = config
        self.models = Models(config.generator, config.bases)
        self._lock = threading.Lock()
        self._index: Index | None = None
        self._retries: Retries[Shape | list[Candidate]] = Retries(
            is_result=lambda update: isinstance(update, list),
            is_alive=lambda made: isinstance(made, list) and all(one.zip.exists() for one in made),
        )

    @cached_property
    def zoo(self) -> ZooView:
        """The zoo that is shown and searched."""
        return ZooView(self.config.zoo)

    @cached_property
    def report(self) -> Report | None:
        """The generator's own report; None where it has none."""
        return read_report(self.config.reports)

    def warm_up(self) -> None:
        """Load what the first visitor would wait for."""
        with self.models.pipeline() as pipe:
            _ = pipe.encoder
        for base in self.config.bases:
            self.models.spec(base)
            with self.models.runner(base):
                pass
        self.zoo.map()
        self.search("warm up", count=1)

    def generate(
        self,
        session: Session,
        request: GenerateRequest,
        cancelled: threading.Event,
        *,
        key: str = "",
    ) -> Iterator[Shape | list[Candidate]]:
        """The shape after each sampler step, at last the candidates, kept in the session.

        Args:
            session: Whose request it is.
            request: What was asked for.
            cancelled: Ends it within one step once it is set.
            key: The client's own name for the request; asked for again under it, the session
                gets the candidates that it already has.

        Raises:
            LoraGenError: The request cannot be served; the sentence says why.
            CancelledError: It was cancelled meanwhile; nothing of it is kept.
        """
        yield from self._retries.run(
            session, key, request, lambda: self._generated(session, request, cancelled)
        )

    def _generated(
        self, session: Session, request: GenerateRequest, cancelled: threading.Event
    ) -> Iterator[Shape | list[Candidate]]:
        for update in sample(self.models, request, cancelled):
            if isinstance(update, Sampled):
                yield self._keep(session, request, update, cancelled)
            else:
                yield update

    def receive(self, session: Session, files: Sequence[str]) -> OwnAdapter:
        """The uploaded adapter, checked, copied and kept in the session.

        Raises:
            LoraGenError: It is no adapter that can be trusted.
        """
        with session.work():
            new, folder = session.new_folder()
            path, adapter = receive_adapter(files, folder)
            title = f"upload {len(session.adapters()) + 1}, unverified"
            own = OwnAdapter(id=new, title=title, adapter=adapter, folder=path, source="uploaded")
            session.keep(own)
        return own

    def menu(self, session: Session) -> list[tuple[str, str]]:
        """(title, reference) of every adapter a visitor can choose, the own ones first."""
        own = [(f"{own.title} ({own.source})", own.id) for own in session.adapters()]
        return own + self.menu_of_zoo()

    def menu_of_zoo(self) -> list[tuple[str, str]]:
        """(title, reference) of every zoo entry."""
        return [(f"zoo: {entry.task}", ZOO_PREFIX + entry.id) for entry in self.zoo.entries()]

    def resolve(self, session: Session, reference: str) -> tuple[str, Path, Adapter]:
        """(title, path, adapter) of a reference from `menu`.

        Raises:
            LoraGenError: There is no such adapter for this visitor.
        """
        if reference.startswith(ZOO_PREFIX):
            entry = self.zoo.entry(reference.removeprefix(ZOO_PREFIX))
            return f"zoo: {entry.task}", self.zoo.path(entry.id), self.zoo.adapter(entry.id)
        own = session.get(reference)
        return own.title, own.folder, own.adapter

    def answers(
        self,
        session: Session,
        references: Sequence[str],
        inputs: Any,
        *,
        strength: float = 1.0,
        blend: bool = False,
    ) -> tuple[list[str], Iterator[list[str]]]:
        """(titles of the columns, a row for each input as soon as it is answered).

        Raises:
            LoraGenError: A value is unusable, or the adapters do not fit together.
        """
        lines = limits.inputs(inputs)
        if not lines:
            raise ConditionError("There are no inputs. Write at least one line to be answered.")
        power = limits.bounded("strength", strength, -limits.MAX_STRENGTH, limits.MAX_STRENGTH)
        chosen: dict[str, Adapter] = {}
        for reference in dict.fromkeys(references):
            title, _, adapter = self.resolve(session, str(reference))
            chosen[title if title not in chosen else f"{title} [{reference[:6]}]"] = adapter
        base = common_base(chosen)
        columns = columns_of(chosen, strength=power, blend=blend)
        return ["input", *columns], answer_rows(self.models, base, columns, lines)

    def inspect(self, session: Session, reference: str) -> tuple[Inspection, list[Neighbor]]:
        """(the findings on an adapter, the zoo entries nearest to it by weights).

        Raises:
            LoraGenError: There is no such adapter for this visitor.
        """
        title, path, adapter = self.resolve(session, reference)
        inspection = examine(self.models, path, adapter, title=title)
        return inspection, self.zoo.neighbors(adapter)

    def search(self, text: Any, count: int = 10) -> list[Hit]:
        """The zoo entries nearest to a description, best first.

        Raises:
            ConditionError: The description is unusable.
        """
        asked = limits.description(text, required=True) or ""
        number = limits.whole("count", count, 1, 50)
        with self._lock:
            if self._index is None:
                self._index = TextIndex(self.models, self.zoo)
        return self._index.search(asked, number)

    def add_to_quarantine(self, session: Session, reference: str, description: Any) -> str:
        """Keep an uploaded adapter for an operator to check; the id it has there.

        Nothing in quarantine is searched, shown or learned from.

        Raises:
            ZooError: This app takes no uploads.
            LoraGenError: The adapter or its description is unusable.
        """
        from lora_gen.zoo.entry import ORIGIN, EntryInfo
        from lora_gen.zoo.origin import origin_of
        from lora_gen.zoo.store import Zoo

        if self.config.quarantine is None:
            raise ZooError(
                "This app keeps no uploads. Start it with `--quarantine FOLDER` to take them in."
            )
        text = limits.description(description, required=True) or ""
        own = session.get(reference)
        self.models.spec(own.adapter.base or "")
        inspection = examine(self.models, own.folder, own.adapter, title=own.title)
        if inspection.errors:
            raise ZooError(f"The adapter is not taken in: {inspection.errors[0]}")
        info = EntryInfo(
            task=f"upload {own.id}",
            descriptions=(text,),
            extra={
                "source": "upload",
                "warnings": list(inspection.warnings),
                ORIGIN: {**origin_of(own.folder), "source": "upload"},
            },
        )
        with Zoo.open(self.config.quarantine, create=True) as zoo:
            entry_id = zoo.add(own.adapter, info).id
            zoo.guard.quarantine(entry_id, "unverified: uploaded, not yet checked by a person")
        return entry_id

    def code(self, own: OwnAdapter, example: str) -> str:
        """Python that loads a generated adapter and asks it once."""
        return loading_code(self.models.spec(own.adapter.base or ""), own.id, example)

    def _keep(
        self,
        session: Session,
        request: GenerateRequest,
        made: Sampled,
        cancelled: threading.Event,
    ) -> list[Candidate]:
        """Save every candidate and its zip into the session."""
        spec = self.models.spec(request.base)
        kept: list[Candidate] = []
        for number, (adapter, record) in enumerate(
            zip(made.adapters, made.records, strict=True), start=1
        ):
            if cancelled.is_set():
                for candidate in kept:
                    session.drop(candidate.own.id)
                raise CancelledError
            new, folder = session.new_folder()
            shown = _plain(record)
            save_adapter(
                adapter, folder, base=spec, card=generated_card(spec, shown), provenance=shown
            )
            own = OwnAdapter(
                id=new,
                title=_title(request, number),
                adapter=adapter,
                folder=folder,
                source="generated",
                record=shown,
            )
            session.keep(own)
            neighbors = tuple(self.zoo.neighbors(adapter, 3))
            archive = zip_folder(folder, new)
            candidate = Candidate(own=own, zip=archive, norm=norm(adapter), neighbors=neighbors)
            kept.append(candidate)
        return kept


def _title(request: GenerateRequest, number: int) -> str:
    text = " ".join((request.description or "from examples").split())
    shown = text if len(text) <= 48 else f"{text[:47]}…"
    return shown if request.candidates == 1 else f"{shown} #{number}"


def _plain(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record for a visitor's file, without where our own files lie."""
    return {**record, "generator": Path(str(record.get("generator", ""))).name}
