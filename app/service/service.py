"""Everything behind the app's buttons, endpoints and tools, with plain values in and out."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from app.service import limits
from app.service.answering import (
    answer_rows,
    columns_of,
    common_base,
    draw_sheet,
    picture_rows,
)
from app.service.candidates import Candidate, Keeper, says
from app.service.downloads import loading_code, zip_entries
from app.service.examiner import Examiner
from app.service.generation import GenerateRequest, Sampled, Shape, sample
from app.service.inspection import Inspection, examine
from app.service.models import Models
from app.service.quality import QualityPredictor
from app.service.quarantine import quarantined
from app.service.reports import Report, read_report
from app.service.retries import Retries
from app.service.search import ALL, Hit, TextIndex, Wanted
from app.service.sessions import OwnAdapter, Session
from app.service.uploads import receive_adapter
from app.service.zoo_view import Neighbor, ZooView
from app.settings import AppConfig, embedded_generators
from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.peft_format import PROVENANCE_NAME
from lora_gen.assets import asset_path
from lora_gen.errors import ConditionError, ZooError

ZOO_PREFIX = "zoo:"


class AppService:
    """The app without its page. Every method may be called by several visitors at once.

    Args:
        config: What the operator chose.
        examiner: Examines uploads in a process of its own; without one it is done here.
    """

    def __init__(self, config: AppConfig, examiner: Examiner | None = None) -> None:
        self.config = config
        self._examiner = examiner
        self.models = Models(config.generator, config.bases, own_generators=embedded_generators())
        self.quality = QualityPredictor(config.encoder, self.models)
        self._keeper = Keeper(self.models, self.quality, self.zoo_of)
        self._lock = threading.Lock()
        self._index: TextIndex | None = None
        self._zoos: dict[str, ZooView] = {}
        self._retries: Retries[Shape | list[Candidate]] = Retries(
            is_result=lambda update: isinstance(update, list),
            is_alive=lambda made: isinstance(made, list) and all(one.zip.exists() for one in made),
        )

    @cached_property
    def zoo(self) -> ZooView:
        """The zoo that is shown and searched."""
        return ZooView(self.config.zoo)

    def zoo_of(self, base: str) -> ZooView:
        """The zoo that the adapters of a base are compared with: an embedded base has its own."""
        folder = asset_path(base, "zoo") if base in embedded_generators() else None
        if folder is None or not folder.is_dir():
            return self.zoo
        with self._lock:
            if base not in self._zoos:
                self._zoos[base] = ZooView(folder)
            return self._zoos[base]

    @cached_property
    def report(self) -> Report | None:
        """The generator's own report; None where it has none."""
        return read_report(self.config.reports)

    def warm_up(self) -> float:
        """Load what the first visitor would wait for; seconds that a generation takes."""
        if self._examiner:
            self._examiner.start()
        with self.models.pipeline() as pipe:
            _ = pipe.encoder
        for base in self.config.bases:
            lend = self.models.drawer if self.draws(base) else self.models.runner
            with lend(base):
                pass
        self.zoo.map()
        self.search("warm up", count=1)
        request = GenerateRequest(description="warm up", base=self.config.bases[0])
        for _ in range(2):  # the first one still pays for what is made once
            began = time.monotonic()
            for _ in sample(self.models, request, threading.Event()):
                pass
        return time.monotonic() - began

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
                yield self._keeper.keep(session, request, update, cancelled)
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
        lines = _lines(inputs, limits.MAX_INPUTS)
        base, columns = self._columns(session, references, strength=strength, blend=blend)
        return ["input", *columns], answer_rows(self.models, base, columns, lines)

    def pictures(
        self,
        session: Session,
        references: Sequence[str],
        captions: Any,
        *,
        strength: float = 1.0,
        blend: bool = False,
    ) -> bytes:
        """A contact sheet (PNG): a row for each caption, a column for base and each adapter.

        Raises:
            LoraGenError: A value is unusable, or the adapters do not fit together.
        """
        lines = _lines(captions, limits.MAX_CAPTIONS)
        base, columns = self._columns(session, references, strength=strength, blend=blend)
        return draw_sheet(self.models, base, columns, lines)

    def drawings(
        self,
        session: Session,
        references: Sequence[str],
        captions: Any,
        *,
        strength: float = 1.0,
        blend: bool = False,
    ) -> tuple[list[str], Iterator[tuple[str, list[bytes]]]]:
        """(titles of the columns, for each caption as soon as they are drawn its PNG pictures).

        Raises:
            LoraGenError: A value is unusable, or the adapters do not fit together.
        """
        lines = _lines(captions, limits.MAX_CAPTIONS)
        base, columns = self._columns(session, references, strength=strength, blend=blend)
        return ["input", *columns], picture_rows(self.models, base, columns, lines)

    def draws(self, base: str | None) -> bool:
        """Whether a base answers with pictures."""
        return base in self.models.bases and self.models.spec(str(base)).kind == "diffusers"

    def _columns(
        self, session: Session, references: Sequence[str], *, strength: float, blend: bool
    ) -> tuple[str, dict[str, Adapter | None]]:
        """(the base of the chosen adapters, title -> what is applied to it)."""
        power = limits.bounded("strength", strength, -limits.MAX_STRENGTH, limits.MAX_STRENGTH)
        chosen: dict[str, Adapter] = {}
        for reference in dict.fromkeys(references):
            title, _, adapter = self.resolve(session, str(reference))
            chosen[title if title not in chosen else f"{title} [{reference[:6]}]"] = adapter
        return common_base(chosen), columns_of(chosen, strength=power, blend=blend)

    def inspect(self, session: Session, reference: str) -> tuple[Inspection, list[Neighbor]]:
        """(the findings on an adapter, the zoo entries nearest to it by weights).

        Raises:
            LoraGenError: There is no such adapter for this visitor.
        """
        title, path, adapter = self.resolve(session, reference)
        is_own = not reference.startswith(ZOO_PREFIX)
        if self._examiner and is_own and session.get(reference).source == "uploaded":
            found = self._examiner.examine(path, title)
            near = [Neighbor(entry=self.zoo.entry(i), cosine=cosine) for i, cosine in found.near]
            return found.inspection, near
        is_generated = (path / PROVENANCE_NAME).is_file()
        task = self._task_of(session, reference)
        record = session.get(reference).record if is_own else None
        quality = self.quality.of(adapter, task, is_generated=is_generated, record=record)
        inspection = examine(self.models, path, adapter, title=title, quality=quality)
        return inspection, self.zoo.neighbors(adapter)

    def search(self, text: Any, count: int = 10, wanted: Wanted = ALL) -> list[Hit]:
        """The zoo entries nearest to a description, best first.

        Raises:
            ConditionError: The description is unusable.
        """
        asked = limits.description(text, required=True) or ""
        number = limits.whole("count", count, 1, 50)
        with self._lock:
            if self._index is None:
                self._index = TextIndex(self.models, self.zoo)
        return self._index.search(asked, number, wanted)

    def similar(
        self, session: Session, reference: str, count: int = 10, wanted: Wanted = ALL
    ) -> list[Hit]:
        """The zoo entries whose delta weights are most like an adapter's, best first.

        Raises:
            LoraGenError: There is no such adapter for this visitor, or it is for another base.
        """
        number = limits.whole("count", count, 1, 50)
        title, _, adapter = self.resolve(session, reference)
        found = self.zoo.neighbors(adapter, number, wanted.admits)
        if not found and not self.zoo.comparable(adapter):
            raise ZooError(
                f"`{title[:80]}` has other modules than every adapter of the zoo, so there is "
                "nothing to compare it with. Search by description instead."
            )
        return [
            Hit(entry=near.entry, score=near.cosine, wording=says(near.entry)) for near in found
        ]

    def export(self, session: Session, references: Sequence[Any]) -> Path:
        """Chosen zoo entries as one zip file, which belongs to the visitor.

        Raises:
            ZooError: None or too many are chosen, or one is unknown.
        """
        ids = [str(one).removeprefix(ZOO_PREFIX) for one in dict.fromkeys(references)]
        if not 1 <= len(ids) <= limits.MAX_EXPORT:
            raise ZooError(
                f"{len(ids)} adapters are chosen, but an export holds 1 to {limits.MAX_EXPORT}. "
                "Choose others, or copy the zoo's folder."
            )
        entries = [(self.zoo.entry(one), self.zoo.path(one)) for one in ids]
        with session.work():
            new, folder = session.new_folder()
            for old in session.folder.glob("lora-zoo-*.zip"):
                old.unlink(missing_ok=True)  # a visitor keeps one export at a time
            return zip_entries(entries, folder.parent / f"lora-zoo-{new}.zip")

    def add_to_quarantine(self, session: Session, reference: str, description: Any) -> str:
        """Keep an uploaded adapter for an operator to check; the id it has there.

        Nothing in quarantine is searched, shown or learned from.

        Raises:
            ZooError: This app takes no uploads.
            LoraGenError: The adapter or its description is unusable.
        """
        return quarantined(self.config.quarantine, self.models, session.get(reference), description)

    def code(self, own: OwnAdapter, example: str) -> str:
        """Python that loads a generated adapter and asks it once."""
        return loading_code(self.models.spec(own.adapter.base or ""), own.id, example)

    def _task_of(self, session: Session, reference: str) -> str | None:
        """What an adapter is said to do, where that is known."""
        if reference.startswith(ZOO_PREFIX):
            return next(iter(self.zoo.entry(reference.removeprefix(ZOO_PREFIX)).descriptions), None)
        return session.get(reference).task


def _lines(inputs: Any, most: int) -> list[str]:
    lines = limits.inputs(inputs, most=most)
    if not lines:
        raise ConditionError("There are no inputs. Write at least one line to be answered.")
    return lines
