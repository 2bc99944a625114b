"""The Zoo tab: a map to click on, the list, and adding by upload."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.pictures.findings import note
from app.pictures.zoo_map import ON_CLICK as MAP_ON_CLICK
from app.pictures.zoo_map import Point, zoo_map
from app.service.candidates import says
from app.service.limits import MAX_EXPORT
from app.service.zoo_view import OTHERS, family_of
from app.tabs.common import LIGHT, PRIVATE, Parts, sentences
from app.tabs.listing import ON_CLICK, SHOWN, entry_list
from lora_gen.errors import LoraGenError

ALL = "all"


class ZooTab:
    """The tab's components and handlers."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        counts = parts.service.zoo.counts()
        self.map = gr.HTML(
            note("Drawing the map …", kind="busy"), elem_id="zoo-map", js_on_load=MAP_ON_CLICK
        )
        with gr.Row():
            self.filter = gr.Textbox(
                label="Only those that say", placeholder="date", elem_id="zoo-filter", scale=3
            )
            self.split = gr.Dropdown(
                [("all", ALL), *((name.replace("_", " "), name) for name in counts)],
                value=ALL,
                label="Split",
            )
        self.list = gr.HTML(self.rows("", ALL), elem_id="zoo-list", js_on_load=ON_CLICK)
        with gr.Accordion("Take adapters home", open=False):
            self._build_export()
        with gr.Accordion("Add an adapter", open=False):
            self._build_adding()
        gr.on(
            [self.filter.change, self.split.change],
            sentences(self.rows),
            [self.filter, self.split],
            self.list,
            **LIGHT,
            **PRIVATE,
        )

    def _build_export(self) -> None:
        self.chosen = gr.Dropdown(
            self._parts.service.menu_of_zoo(),
            value=[],
            multiselect=True,
            max_choices=MAX_EXPORT,
            label=f"Adapters to take home, at most {MAX_EXPORT}",
            elem_id="zoo-chosen",
        )
        self.pack = gr.Button("Make the zip", elem_id="zoo-pack")
        self.packed = gr.DownloadButton(
            "Download the adapters (.zip)", visible=False, elem_id="zoo-export"
        )
        self.pack.click(self.export, self.chosen, self.packed, **LIGHT, **PRIVATE)

    @sentences
    def export(self, chosen: list[str] | None, request: gr.Request) -> Any:
        """The download of the chosen entries."""
        session = self._parts.session(request)
        zip = self._parts.service.export(session, chosen or [])
        return gr.update(value=str(zip), visible=True)

    def _build_adding(self) -> None:
        gr.Markdown(
            "An upload stays in quarantine until an operator has checked it: until then it is "
            "neither shown, searched nor learned from."
        )
        self.files = gr.File(
            label="A .zip, or adapter_config.json with adapter_model.safetensors",
            file_count="multiple",
            file_types=[".zip", ".safetensors", ".json", ".md"],
            height=120,
            elem_id="zoo-files",
        )
        self.description = gr.Textbox(label="What it makes the base do", elem_id="zoo-description")
        self.add = gr.Button("Add to quarantine", elem_id="zoo-add")
        self.added = gr.HTML("", elem_id="zoo-added", js_on_load=None)
        self.add.click(
            self.quarantine, [self.files, self.description], self.added, **LIGHT, **PRIVATE
        )

    @sentences
    def draw(self, request: gr.Request) -> str:
        """The map with the visitor's own adapters on it."""
        zoo = self._parts.service.zoo
        found, families = zoo.map(), zoo.families()
        points = []
        for entry_id, (x, y) in zip(found.ids, found.points, strict=True):
            entry = zoo.entry(entry_id)
            family = family_of(entry)
            group = family if family in families else OTHERS
            points.append(Point(id=entry_id, x=x, y=y, group=group, title=says(entry)))
        for own in reversed(self._parts.session(request).adapters()):
            place = zoo.place(own.adapter)
            if place is not None:
                x, y = place
                points.append(Point(id=own.id, x=x, y=y, group="", title=own.title, own=True))
        caption = (
            f"{len(found.ids)} adapters, colored by what they work on, near each other when their "
            f"weights point the same way (the plane keeps {found.explained:.0%} of the variance). "
            "Click one to inspect it."
        )
        return zoo_map(points, families, caption=caption)

    def rows(self, text: str, split: str) -> str:
        """The list of the entries that match."""
        wanted = None if split == ALL else split
        entries = self._parts.service.zoo.entries(split=wanted, text=str(text or "")[:200])
        if not entries:
            return note("Nothing in the zoo says that. Try another word, or search by meaning.")
        shown = [(entry, says(entry), "") for entry in entries[:SHOWN]]
        return entry_list(shown, label="Adapters in the zoo", total=len(entries))

    @sentences
    def quarantine(self, files: list[str] | None, description: str, request: gr.Request) -> Any:
        """The upload, checked and kept apart."""
        session = self._parts.session(request)
        try:
            own = self._parts.service.receive(session, files or [])
            added = self._parts.service.add_to_quarantine(session, own.id, description)
        except LoraGenError as error:
            return note(str(error), kind="bad")
        return note(f"Kept in quarantine as {added[:12]}. An operator decides.", kind="good")
