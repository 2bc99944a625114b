"""The Search tab: zoo entries by what they do, or by likeness to an adapter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from app.pictures.findings import note
from app.service.search import Hit, Wanted
from app.tabs.common import LIGHT, PRIVATE, SEARCHING, Parts, sentences
from app.tabs.listing import ON_CLICK, entry_list
from lora_gen.errors import LoraGenError

EMPTY = "Describe a task, or give an adapter: those of the zoo that come nearest are listed here."
NOTHING = "No adapter of the zoo passes the filters. Loosen them."


class SearchTab:
    """The tab's components and handlers."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        with gr.Row():
            self.text = gr.Textbox(
                label="What should the adapter do?",
                placeholder="write a date the German way",
                elem_id="search-text",
                scale=4,
            )
            self.count = gr.Slider(1, 50, value=10, step=1, label="How many", scale=1)
        self.run = gr.Button("Search", variant="primary", elem_id="search")
        gr.Examples(
            [["write a date the German way"], ["mask all but the last digits"], ["file extension"]],
            self.text,
            label="Or click one of these",
            api_visibility="private",
        )
        with gr.Accordion("Or search by an adapter", open=False, elem_id="search-by-adapter"):
            self._build_adapter()
        with gr.Accordion("Filters", open=False, elem_id="search-filters"):
            self._build_filters()
        self.list = gr.HTML(note(EMPTY), elem_id="search-list", js_on_load=ON_CLICK)
        self._wire()

    def _build_adapter(self) -> None:
        self.files = gr.File(
            label="A .zip, or adapter_config.json with adapter_model.safetensors",
            file_count="multiple",
            file_types=[".zip", ".safetensors", ".json", ".md"],
            height=120,
            elem_id="search-files",
        )
        self.adapter = gr.Dropdown(
            self._parts.service.menu_of_zoo(),
            value=None,
            label="Or pick one",
            elem_id="search-adapter",
        )

    def _build_filters(self) -> None:
        counts = self._parts.service.zoo.counts()
        with gr.Row():
            self.split = gr.Dropdown(
                [("all", ""), *((name.replace("_", " "), name) for name in counts)],
                value="",
                label="Split",
                elem_id="search-split",
            )
            self.rank = gr.Number(0, precision=0, minimum=0, label="Rank at most (0: any)")
            self.accuracy = gr.Slider(
                0, 1, value=0, step=0.05, label="Measured accuracy at least (0: any)"
            )

    def _wire(self) -> None:
        filters = [self.count, self.split, self.rank, self.accuracy]
        gr.on(
            [self.run.click, self.text.submit],
            self.search,
            [self.text, *filters],
            self.list,
            **SEARCHING,
            **PRIVATE,
        )
        self.files.upload(
            self.receive, [self.files, *filters], [self.adapter, self.list], **LIGHT, **PRIVATE
        )
        self.adapter.input(self.similar, [self.adapter, *filters], self.list, **LIGHT, **PRIVATE)

    @sentences
    def search(self, text: str, count: float, *filters: Any) -> str:
        """The list of the entries nearest to a description."""
        return _listed(self._parts.service.search(text, int(count), Wanted.of(*filters)))

    @sentences
    def similar(
        self,
        reference: str | None,
        count: float,
        split: str,
        rank: float,
        accuracy: float,
        request: gr.Request,
    ) -> str:
        """The list of the entries most like the adapter that was picked."""
        if not reference:
            return note(EMPTY)
        session = self._parts.session(request)
        wanted = Wanted.of(split, rank, accuracy)
        return _listed(self._parts.service.similar(session, reference, int(count), wanted))

    @sentences
    def receive(
        self,
        files: list[str] | None,
        count: float,
        split: str,
        rank: float,
        accuracy: float,
        request: gr.Request,
    ) -> tuple[Any, str]:
        """The upload, kept for this visitor, and the entries most like it."""
        session = self._parts.session(request)
        wanted = Wanted.of(split, rank, accuracy)
        try:
            own = self._parts.service.receive(session, files or [])
            hits = self._parts.service.similar(session, own.id, int(count), wanted)
        except LoraGenError as error:
            return gr.update(value=None), note(str(error), kind="bad")
        return gr.update(choices=self._parts.menu(request), value=own.id), _listed(hits)


def _listed(hits: Sequence[Hit]) -> str:
    if not hits:
        return note(NOTHING)
    rows = [(hit.entry, hit.wording, f" · cosine {hit.score:.2f}") for hit in hits]
    return entry_list(rows, label="Search results")
