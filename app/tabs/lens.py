"""The Lens tab: one sentence turns what an embedding model finds alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from app.pictures.findings import note
from app.pictures.lens import lens_maps, neighbors
from app.service import lens
from app.service.sessions import CancelledError
from app.tabs.common import PRIVATE, Parts, sentences

LENSES: dict[str, Any] = {"concurrency_id": "lenses", "concurrency_limit": 1}
EMPTY = "Say what two sentences should have in common to be near, and see your sentences move."
ABSENT = (
    "Lenses need the embedding model all-MiniLM-L6-v2, which is not installed here. "
    'Run: pip install "lora_gen[demo]"'
)
EXAMPLE = """\
Could you please have a look at the printer when you have a minute?
Fix the printer on the third floor.
The printer is broken again, are you people completely useless?
I would be very grateful for a hint about my invoice
Where is my invoice
Your invoice is a joke and so are you
The server is down.
Many thanks in advance for restarting the server
Restart that stupid server, you lazy idiots
Send me the new password
Would it be possible to get a new password?
Get lost with your password rules"""


class LensTab:
    """The tab's components and handlers."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        with gr.Row(elem_classes="lg-columns"):
            with gr.Column(scale=5, min_width=300):
                self._build_request()
            with gr.Column(scale=6, min_width=300):
                self._build_result()
        asked: set[Any] = {self.description, self.lines, self.labels, self.query}
        shown = [self.status, self.download, self.before, self.after, self.near]
        self.run.click(self.look, asked, shown, trigger_mode="once", **LENSES, **PRIVATE)
        self.query.submit(self.look, asked, shown, trigger_mode="once", **LENSES, **PRIVATE)

    def _build_request(self) -> None:
        self.description = gr.Textbox(
            label="What sentences should have in common to be near",
            value="by how polite the message is",
            max_length=500,
            elem_id="lens-description",
        )
        self.lines = gr.Textbox(
            label=f"Sentences, one a line, {lens.FEWEST} to {lens.MOST}",
            value=EXAMPLE,
            lines=9,
            max_lines=12,
            elem_id="lens-sentences",
        )
        self.labels = gr.Textbox(
            label="Color by the nearest of these words (commas between them)",
            value="please and thank you, just the facts, you idiot",
            max_length=400,
            elem_id="lens-labels",
        )
        self.query = gr.Textbox(
            label="Search for (blank: the first sentence)",
            value="what a bunch of morons runs this shop",
            max_length=500,
            elem_id="lens-query",
        )
        self.run = gr.Button("Look", variant="primary", elem_id="lens-look")

    def _build_result(self) -> None:
        told = EMPTY if lens.is_at_hand() else ABSENT
        self.status = gr.HTML(note(told), elem_id="lens-status", js_on_load=None)
        self.download = gr.DownloadButton(
            "Download the lens (.zip)", elem_id="lens-download", variant="primary", visible=False
        )
        self.before = gr.HTML("", elem_id="lens-before", js_on_load=None)
        self.after = gr.HTML("", elem_id="lens-after", js_on_load=None)
        self.near = gr.HTML("", elem_id="lens-near", js_on_load=None)

    @sentences
    def look(self, values: dict[Any, Any], request: gr.Request) -> Iterator[dict[Any, Any]]:
        """The sentences before and after."""
        blank = dict.fromkeys((self.before, self.after, self.near), "")
        hidden = {self.download: gr.update(visible=False)}
        yield {self.status: note("Making the lens …", kind="busy"), **hidden, **blank}
        asked = [values[part] for part in (self.description, self.lines, self.labels, self.query)]
        try:
            found = lens.look(self._parts.session(request), *asked)
        except CancelledError:
            yield {self.status: note("Cancelled. Nothing was kept."), **hidden, **blank}
            return
        except Exception:
            yield {self.status: note(EMPTY), **hidden, **blank}
            raise
        before, after = lens_maps(found)
        yield {
            self.status: note(f"{found.sentence} It is in the other tabs now.", kind="good"),
            self.download: gr.update(value=str(found.zip), visible=True),
            self.before: before,
            self.after: after,
            self.near: neighbors(found),
        }
