"""The Combine tab: new adapters from adapters, without training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from app.pictures.findings import note
from app.pictures.heat_map import heat_map
from app.service import combine
from app.service.combine import Combined
from app.service.limits import MAX_INPUTS, MAX_RANK
from app.service.sessions import CancelledError
from app.tabs.common import LIGHT, PRIVATE, Parts, sentences
from app.tabs.trial import trial
from lora_gen.weight_space.merge import METHODS

COMBINING: dict[str, Any] = {"concurrency_id": "combining", "concurrency_limit": 1}
MERGE, SHRINK, BETWEEN = "Merge two to eight", "Shrink one", "Go between two"
EMPTY = "Choose adapters of one base: the new one appears here, with what it leaves out."
TRIED = 3


class CombineTab:
    """The tab's components and handlers."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        with gr.Row(elem_classes="lg-columns"):
            with gr.Column(scale=5, min_width=300):
                self._build_request()
            with gr.Column(scale=6, min_width=300):
                self._build_result()
        self._wire()

    def _build_request(self) -> None:
        self.what = gr.Dropdown(
            [MERGE, SHRINK, BETWEEN], value=MERGE, label="What to do", elem_id="combine-what"
        )
        self.adapters = gr.Dropdown(
            self._parts.service.menu_of_zoo(),
            value=[],
            multiselect=True,
            max_choices=combine.MOST,
            label="Adapters, yours first",
            elem_id="combine-adapters",
        )
        with gr.Group() as self.merging:
            self.method = gr.Dropdown(
                list(METHODS), value="linear", label="Method", elem_id="combine-method"
            )
            self.weights = gr.Textbox(
                label="Weights in the order of the adapters (blank: the method's own)",
                placeholder="0.5, 0.5",
                max_length=200,
                elem_id="combine-weights",
            )
        self.share = gr.Slider(
            -1,
            2,
            value=0.5,
            step=0.05,
            label="Where: 0 is the first adapter, 1 the second",
            elem_id="combine-share",
            visible=False,
        )
        self.energy = gr.Slider(
            0,
            1,
            value=0,
            step=0.01,
            label="Or the share of its energy to keep (0: by rank)",
            elem_id="combine-energy",
            visible=False,
        )
        self.rank = gr.Slider(
            0, MAX_RANK, value=0, step=1, label="Rank (0: as it comes)", elem_id="combine-rank"
        )
        self.inputs = gr.Textbox(
            label=f"Try it at once on (one input a line, at most {MAX_INPUTS})",
            lines=2,
            elem_id="combine-inputs",
        )
        self.run = gr.Button("Combine", variant="primary", elem_id="combine")

    def _build_result(self) -> None:
        self.status = gr.HTML(note(EMPTY), elem_id="combine-status", js_on_load=None)
        self.download = gr.DownloadButton(
            "Download the adapter (.zip)",
            elem_id="combine-download",
            variant="primary",
            visible=False,
        )
        self.answers = gr.HTML("", elem_id="combine-answers", js_on_load=None)
        self.shape = gr.HTML("", elem_id="combine-shape", js_on_load=None)

    def _wire(self) -> None:
        asked: set[Any] = {
            *(self.what, self.adapters, self.method, self.weights),
            *(self.share, self.energy, self.rank, self.inputs),
        }
        shown = [self.status, self.download, self.answers, self.shape]
        self.run.click(self.combine, asked, shown, trigger_mode="once", **COMBINING, **PRIVATE)
        fields = [self.merging, self.share, self.energy]
        self.what.change(self.fields, self.what, fields, **LIGHT, **PRIVATE)

    def fields(self, what: str) -> list[Any]:
        """What is asked for beside adapters and rank."""
        return [gr.update(visible=what == name) for name in (MERGE, BETWEEN, SHRINK)]

    @sentences
    def combine(self, values: dict[Any, Any], request: gr.Request) -> Iterator[dict[Any, Any]]:
        """The new adapter, and then what it answers beside those it was made of."""
        yield {
            self.status: note("Combining …", kind="busy"),
            self.download: gr.update(visible=False),
            self.answers: "",
            self.shape: "",
        }
        try:
            made = self._made(values, request)
        except CancelledError:
            yield {self.status: note("Cancelled. Nothing was kept.")}
            return
        except Exception:
            yield {self.status: note(EMPTY)}
            raise
        yield {
            self.status: note(f"{made.sentence} It is in the other tabs now.", kind="good"),
            self.download: gr.update(value=str(made.zip), visible=True),
            self.shape: heat_map(made.norms, caption="How much each module changes"),
        }
        if (values[self.inputs] or "").strip():
            session = self._parts.session(request)
            columns = [made.own.id, *list(values[self.adapters])[:TRIED]]
            for markup in trial(self._parts.service, session, columns, values[self.inputs]):
                yield {self.answers: markup}

    def _made(self, values: dict[Any, Any], request: gr.Request) -> Combined:
        service, session = self._parts.service, self._parts.session(request)
        chosen, rank = list(values[self.adapters] or []), values[self.rank]
        if values[self.what] == SHRINK:
            energy = values[self.energy]
            return combine.compress(service, session, chosen, rank=rank, energy=energy)
        if values[self.what] == BETWEEN:
            share = values[self.share]
            return combine.between(service, session, chosen, share=share, rank=rank)
        options = {"weights": values[self.weights], "method": values[self.method], "rank": rank}
        return combine.merge(service, session, chosen, **options)
