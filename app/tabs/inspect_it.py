"""The Inspect tab: what an adapter is, uploaded or picked."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.pictures.findings import findings, note
from app.pictures.heat_map import heat_map
from app.pictures.spectra import module_table
from app.service.candidates import says
from app.service.zoo_view import Neighbor
from app.tabs.common import EXAMINING, PRIVATE, Parts, sentences
from app.tabs.listing import ON_CLICK, entry_list
from lora_gen.errors import LoraGenError

EMPTY = "Upload an adapter, or pick one. Nothing in it is run; it is only measured."


class InspectTab:
    """The tab's components and handlers."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        with gr.Row(elem_classes="lg-columns"):
            with gr.Column(scale=5, min_width=300):
                self.files = gr.File(
                    label="A .zip, or adapter_config.json with adapter_model.safetensors",
                    file_count="multiple",
                    file_types=[".zip", ".safetensors", ".json", ".md"],
                    height=150,
                    elem_id="inspect-files",
                )
                self.adapter = gr.Dropdown(
                    parts.service.menu_of_zoo(),
                    value=None,
                    label="Or pick one",
                    elem_id="inspect-adapter",
                )
                self.found = gr.HTML(note(EMPTY), elem_id="findings", js_on_load=None)
            with gr.Column(scale=6, min_width=300):
                self.shape = gr.HTML("", elem_id="inspect-shape", js_on_load=None)
                self.modules = gr.HTML("", elem_id="inspect-modules", js_on_load=None)
                self.near = gr.HTML("", elem_id="inspect-near", js_on_load=ON_CLICK)
                with gr.Accordion("Its card, as written by its author", open=False):
                    self.card = gr.Textbox(label="Card", lines=8, max_lines=24, interactive=False)
        self.shown = [self.found, self.shape, self.modules, self.near, self.card]
        self.received = self.files.upload(
            self.receive, self.files, [self.adapter, *self.shown], **EXAMINING, **PRIVATE
        )
        self.adapter.input(self.inspect, self.adapter, self.shown, **EXAMINING, **PRIVATE)

    @sentences
    def receive(self, files: list[str] | None, request: gr.Request) -> list[Any]:
        """The upload, kept for this visitor and inspected; or why it was refused."""
        try:
            own = self._parts.service.receive(self._parts.session(request), files or [])
        except LoraGenError as error:
            return [gr.update(value=None), note(str(error), kind="bad"), "", "", "", ""]
        choices = gr.update(choices=self._parts.menu(request), value=own.id)
        return [choices, *self._views(own.id, request)]

    @sentences
    def inspect(self, reference: str | None, request: gr.Request) -> list[Any]:
        """The findings on the adapter that was picked."""
        if not reference:
            return [note(EMPTY), "", "", "", ""]
        return self._views(reference, request)

    def _views(self, reference: str, request: gr.Request) -> list[Any]:
        session = self._parts.session(request)
        inspection, near = self._parts.service.inspect(session, reference)
        norms = {facts.module: facts.norm for facts in inspection.modules}
        return [
            findings(inspection),
            heat_map(norms, caption="How much each module changes (Frobenius norm)"),
            module_table(inspection.modules),
            _neighbors(near),
            inspection.card,
        ]


def _neighbors(near: list[Neighbor]) -> str:
    if not near:
        return note("No zoo adapter has the same modules, so there is nothing to compare with.")
    rows = [(n.entry, says(n.entry), f" · cosine {n.cosine:.2f}") for n in near]
    return entry_list(rows, label="Nearest in the zoo, by weights", heading=True)
