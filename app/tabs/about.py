"""The About tab: how good the generator is, as measured, and how to use the app from programs."""

from __future__ import annotations

import gradio as gr

from app.pictures.bars import report_bars
from app.pictures.findings import note
from app.tabs.common import Parts

_INTRODUCTION = """\
## What this does

A recurrent diffusion model samples the weights of a LoRA adapter from your description, in one
run and without training. The download is an ordinary PEFT folder.

## How good it is

The figures are the generator's own report: measured also on tasks and wordings that it was never
shown, and none picked.
"""

_NO_ENCODER = """\
## Predicted quality

No quality encoder is installed, so the quality of an adapter is not predicted from its weights:
compare its answers on your own inputs instead.
"""

_PROGRAMS = """\
## From a program

Every button is an endpoint too: the link *Use via API* in the footer lists them with their types.

```python
from gradio_client import Client

client = Client("http://127.0.0.1:7860")
options = ("tiny_lm", 1, 4, 4, 1.0, 0)  # base, candidates, rank, steps, guidance, seed
made, zip_file = client.predict("keep only the digits", *options, api_name="/generate_adapters")
adapter = made["adapters"][0]["id"]
print(client.predict([adapter], ["(415) 555-0132"], 1.0, api_name="/answer_inputs"))
```
"""


class AboutTab:
    """The tab's components; there is nothing to handle."""

    def __init__(self, parts: Parts) -> None:
        gr.Markdown(_INTRODUCTION)
        report = parts.service.report
        if report is None:
            gr.HTML(note("This generator comes without a report."), js_on_load=None)
        else:
            gr.HTML(report_bars(report.scores), elem_id="report", js_on_load=None)
            with gr.Accordion("The whole report", open=False):
                gr.Markdown(report.text)
        if not parts.service.quality.installed:
            gr.Markdown(_NO_ENCODER)
        gr.Markdown(_PROGRAMS)
