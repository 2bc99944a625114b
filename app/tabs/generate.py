"""The Generate tab: a description in, adapters out, their shape on the way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import gradio as gr

from app.pictures.findings import note
from app.pictures.heat_map import heat_map
from app.service import limits
from app.service.candidates import Candidate
from app.service.generation import GenerateRequest, Shape
from app.service.sessions import CancelledError, Session
from app.service.uploads import read_rows
from app.tabs.candidates import candidate_table
from app.tabs.common import LIGHT, PRIVATE, SAMPLING, Parts, sentences
from app.tabs.trial import trial

EXAMPLES = [
    [
        "extract the domain of an email address, then write it in uppercase",
        "maria.lopez@acme.org\nj.doe@example.com",
        "tiny_lm",
    ],
    ["rewrite the given date year first with dashes", "7 July 1971\n04/11/1989", "tiny_lm"],
    ["keep only the digits", "(415) 555-0132\nroom 12, floor 3", "tiny_lm"],
    ["write an identifier in kebab-case", "TotalTableCount\nuserName", "tiny_lm"],
    [
        "get the value from a key=value pair, then put it in square brackets",
        "port=6362\ncity=oslo",
        "tiny_lm",
    ],
    ["a bold blue line around each shape", "an orange circle\ntwo red squares", "tiny_sd"],
    ["retro game pixels", "a green star on a white background", "tiny_sd"],
]
"""Descriptions to click on, what to try each on, and the base that each is for."""

SAYS = {"tiny_lm": "tiny_lm, which answers with text", "tiny_sd": "tiny_sd, which draws"}
EMPTY = "Your adapter appears here: how much it changes each module, and what it answers."
CANCELLED = "Cancelled. Nothing was kept."
CANCELLING = f"() => {json.dumps(note('Cancelling …', kind='busy'))}"
"""Runs in the browser, before the request to cancel leaves it: an answer that came later than the
sampler's last word would stand there for ever."""


SHOW_RESULT = """() => {
  const result = document.querySelector("#status");
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  if (innerWidth < 768) result.scrollIntoView({behavior: calm ? "auto" : "smooth"});
}"""
"""On a phone the result stands below the form: whoever asks is led there."""


class GenerateTab:
    """The tab's components and handlers."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        with gr.Row(elem_classes="lg-columns"):
            with gr.Column(scale=5, min_width=300):
                self._build_request()
            with gr.Column(scale=6, min_width=300):
                self._build_result()
        self.done = self._wire()

    def _build_request(self) -> None:
        self.description = gr.Textbox(
            label="What should the base do?",
            placeholder="Say it in a sentence: keep only the digits",
            lines=3,
            max_length=4_000,
            elem_id="description",
            autofocus=True,
        )
        self.inputs = gr.Textbox(
            label="Try it at once on (one input a line)",
            lines=2,
            elem_id="generate-inputs",
            placeholder="(415) 555-0132",
        )
        bases = list(self._parts.service.config.bases)
        self.base = gr.Radio(
            [(SAYS.get(base, base), base) for base in bases],
            value=bases[0],
            label="Base model that the adapter is for",
            elem_id="base",
            visible=len(bases) > 1,
        )
        with gr.Row():
            self.run = gr.Button("Generate", variant="primary", elem_id="generate", scale=3)
            self.cancel = gr.Button("Cancel", variant="stop", elem_id="cancel", interactive=False)
        self._examples = [example for example in EXAMPLES if example[2] in bases]
        self.examples = gr.Dataset(
            components=[gr.Textbox(visible=False)],
            samples=[[description] for description, _, _ in self._examples],
            label="Or fill it in with one of these",
            type="index",
            elem_id="examples",
        )
        with gr.Accordion("Inputs or examples of the task (optional)", open=False):
            self.prompts = gr.Textbox(
                label="Inputs without answers, one a line", lines=3, elem_id="prompts"
            )
            self.pairs = gr.Dataframe(
                headers=["input", "output"],
                datatype="str",
                type="array",
                row_count=2,
                column_count=2,
                label="Examples: an input and what the answer should be",
                elem_id="pairs",
                interactive=True,
            )
            self.file = gr.File(
                label="Or a file: .txt inputs, .csv or .jsonl pairs",
                file_types=[".txt", ".csv", ".tsv", ".jsonl"],
                height=110,
            )
        with gr.Accordion("Advanced", open=False, elem_id="advanced"):
            self._build_advanced()

    def _build_advanced(self) -> None:
        with gr.Row():
            self.candidates = gr.Slider(
                1, limits.MAX_CANDIDATES, value=1, step=1, label="Candidates", elem_id="candidates"
            )
            self.rank = gr.Slider(1, limits.MAX_RANK, value=4, step=1, label="Rank", elem_id="rank")
        with gr.Row():
            self.steps = gr.Slider(
                1, limits.MAX_STEPS, value=4, step=1, label="Sampler steps", elem_id="steps"
            )
            self.guidance = gr.Slider(0, 5, value=1.0, step=0.1, label="Guidance (1 is none)")
        with gr.Row():
            self.targets = gr.Dropdown(
                list(limits.TARGETS), value=limits.TARGETS[0], label="Modules to adapt"
            )
            self.seed = gr.Number(
                0, precision=0, minimum=0, label="Seed: the same seed, the same adapter"
            )

    def _build_result(self) -> None:
        self.status = gr.HTML(note(EMPTY), elem_id="status", js_on_load=None)
        self.made = gr.HTML("", elem_id="made", js_on_load=None)
        self.answers = gr.HTML("", elem_id="answers", js_on_load=None)
        with gr.Group(visible=False) as self.keep:
            self.pick = gr.Radio([], label="Candidate to take home", elem_id="pick", visible=False)
            self.download = gr.DownloadButton(
                "Download the adapter (.zip)", elem_id="download", variant="primary"
            )
            with gr.Accordion("Use it from Python", open=False):
                self.code = gr.Code(language="python", label="Python", interactive=False)
        self.shape = gr.HTML("", elem_id="shape", js_on_load=None)

    def _wire(self) -> Any:
        asked = {
            *(self.description, self.inputs, self.prompts, self.pairs, self.file, self.base),
            *(self.rank, self.targets, self.candidates, self.steps, self.guidance, self.seed),
        }
        shown = [self.status, self.shape, self.made, self.answers, self.keep]
        shown += [self.pick, self.download, self.code, self.cancel]
        started = gr.on(
            [self.run.click, self.description.submit],
            self.ask,
            None,
            [self.status, self.cancel],
            queue=False,
            trigger_mode="once",
            js=SHOW_RESULT,
            **PRIVATE,
        )
        done = started.then(self.generate, asked, shown, trigger_mode="once", **SAMPLING, **PRIVATE)
        done.failure(
            lambda: (note(EMPTY), "", gr.update(interactive=False)),
            None,
            [self.status, self.shape, self.cancel],
            queue=False,
            **PRIVATE,
        )
        self.examples.click(
            lambda index: self._examples[index],
            self.examples,
            [self.description, self.inputs, self.base],
            **LIGHT,
            **PRIVATE,
        )
        self.cancel.click(None, None, self.status, js=CANCELLING, **PRIVATE).then(
            self.stop, None, None, queue=False, **PRIVATE
        )
        self.pick.input(self.choose, self.pick, [self.download, self.code], **LIGHT, **PRIVATE)
        return done

    @sentences
    def generate(self, values: dict[Any, Any], request: gr.Request) -> Iterator[dict[Any, Any]]:
        """The tab's state after each step of the sampler, then after each answer."""
        session = self._parts.session(request)
        with session.work(asked=True) as cancelled:
            yield {
                self.status: note("Reading the description …", kind="busy"),
                self.made: "",
                self.answers: "",
                self.keep: gr.update(visible=False),
            }
            try:
                asked = self._request(values)
                for update in self._parts.service.generate(session, asked, cancelled):
                    if isinstance(update, Shape):
                        yield self._progress(update)
                    else:
                        yield self._finished(update, values)
                        yield from self._tried(session, update, values)
            except CancelledError:
                yield {self.status: note(CANCELLED), self.shape: ""} | self._idle()

    def ask(self, request: gr.Request) -> Any:
        """Announce the request, so that it can be cancelled while it waits."""
        if not self._parts.session(request).ask():
            return gr.skip()
        return note("Waiting for the generator …", kind="busy"), gr.update(interactive=True)

    def stop(self, request: gr.Request) -> None:
        """Tell the running sampler to stop; it does within one step."""
        self._parts.session(request).cancel()

    @sentences
    def choose(self, reference: str, request: gr.Request) -> tuple[Any, str]:
        """The download and the code of another candidate."""
        session = self._parts.session(request)
        own = session.get(reference)
        zip = own.folder.parent / f"lora-{own.id}.zip"
        return gr.update(value=str(zip)), self._parts.service.code(own, "your input")

    def _request(self, values: dict[Any, Any]) -> GenerateRequest:
        prompts = limits.inputs(values[self.prompts], most=limits.MAX_ROWS)
        pairs: list[tuple[str, str]] = []
        if values[self.file]:
            more, pairs = read_rows(values[self.file])
            prompts += more
        return GenerateRequest(
            description=values[self.description],
            prompts=tuple(prompts),
            examples=(*limits.pairs(values[self.pairs]), *pairs),
            base=values[self.base],
            rank=values[self.rank],
            targets=values[self.targets],
            candidates=values[self.candidates],
            steps=values[self.steps],
            guidance=values[self.guidance],
            seed=values[self.seed],
        )

    def _progress(self, shape: Shape) -> dict[Any, Any]:
        busy = note(f"Sampling: step {shape.step} of {shape.steps}", kind="busy")
        caption = f"How much each module changes, after step {shape.step} of {shape.steps}"
        return {self.status: busy, self.shape: heat_map(shape.norms, caption=caption)}

    def _finished(self, made: list[Candidate], values: dict[Any, Any]) -> dict[Any, Any]:
        first = made[0]
        several = len(made) > 1
        rank = first.own.adapter.max_rank
        sentence = f"{len(made)} adapters" if several else "An adapter"
        text = f"{sentence} of rank {rank} for {first.own.adapter.base}. {first.memorized}"
        example = (values[self.inputs] or "your input").splitlines()[0]
        choices = [(f"#{i}", one.own.id) for i, one in enumerate(made, start=1)]
        return {
            self.status: note(text, kind="good"),
            self.made: candidate_table(made),
            self.keep: gr.update(visible=True),
            self.pick: gr.update(choices=choices, value=first.own.id, visible=several),
            self.download: gr.update(value=str(first.zip)),
            self.code: self._parts.service.code(first.own, example),
        } | self._idle()

    def _tried(
        self, session: Session, made: list[Candidate], values: dict[Any, Any]
    ) -> Iterator[dict[Any, Any]]:
        """The answers of base and candidates, input by input."""
        if not (values[self.inputs] or "").strip():
            return
        shown = [one.own.id for one in made[:4]]
        names = ["base + adapter"] if len(shown) == 1 else [f"with #{i + 1}" for i in range(4)]
        titles = names[: len(shown)]
        asked = values[self.inputs]
        for markup in trial(self._parts.service, session, shown, asked, titles=titles):
            yield {self.answers: markup}

    def _idle(self) -> dict[Any, Any]:
        return {self.cancel: gr.update(interactive=False)}
