"""The Search tab: zoo entries by what they do."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.pictures.findings import note
from app.tabs.common import ANSWERING, PRIVATE, Parts, sentences
from app.tabs.listing import ON_CLICK, entry_list

EMPTY = "Describe a task: the adapters of the zoo that come nearest are listed here."


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
        self.list = gr.HTML(note(EMPTY), elem_id="search-list", js_on_load=ON_CLICK)
        gr.on(
            [self.run.click, self.text.submit],
            self.search,
            [self.text, self.count],
            self.list,
            **ANSWERING,
            **PRIVATE,
        )

    @sentences
    def search(self, text: str, count: float) -> Any:
        """The list of the nearest entries."""
        hits = self._parts.service.search(text, int(count))
        rows = [(hit.entry, hit.wording, f" · cosine {hit.score:.2f}") for hit in hits]
        return entry_list(rows, label="Search results")
