"""The Try tab: a base beside base + adapters on the visitor's own inputs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from app.pictures.findings import note
from app.service.limits import MAX_INPUTS, MAX_STRENGTH
from app.tabs.common import ANSWERING, PRIVATE, Parts, sentences
from app.tabs.trial import trial

EMPTY = "Choose up to four adapters, write inputs, and compare what the base answers with each."


class TryTab:
    """The tab's components and handlers."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        with gr.Row(elem_classes="lg-columns"):
            with gr.Column(scale=5, min_width=300):
                self.adapters = gr.Dropdown(
                    parts.service.menu_of_zoo(),
                    value=[],
                    multiselect=True,
                    max_choices=4,
                    label="Adapters, yours first",
                    elem_id="try-adapters",
                )
                self.inputs = gr.Textbox(
                    label=f"Inputs, one a line, at most {MAX_INPUTS}", lines=4, elem_id="try-inputs"
                )
                self.strength = gr.Slider(
                    -MAX_STRENGTH,
                    MAX_STRENGTH,
                    value=1.0,
                    step=0.05,
                    label="Strength: 0 is the base, 1 the adapter as made",
                    elem_id="strength",
                )
                self.blend = gr.Checkbox(
                    label="Also apply all of them at once", elem_id="try-blend"
                )
                self.run = gr.Button("Answer", variant="primary", elem_id="answer")
            with gr.Column(scale=6, min_width=300):
                self.answers = gr.HTML(note(EMPTY), elem_id="try-answers", js_on_load=None)
        self.run.click(
            self.answer,
            [self.adapters, self.inputs, self.strength, self.blend],
            self.answers,
            **ANSWERING,
            **PRIVATE,
        )

    @sentences
    def answer(
        self, adapters: list[str], inputs: str, strength: float, blend: bool, request: gr.Request
    ) -> Iterator[Any]:
        """The table of answers, growing by a row for each input."""
        yield note("Asking the base …", kind="busy")
        try:
            session = self._parts.session(request)
            yield from trial(
                self._parts.service,
                session,
                adapters or [],
                inputs,
                strength=strength,
                blend=bool(blend),
            )
        except Exception:
            yield note(EMPTY)
            raise
