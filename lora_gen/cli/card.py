"""The model card of a generated adapter: how it came to be, and how to load it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lora_gen.adapter.base_model import BaseModelSpec

_SHOWN_VALUE = 400
_ASKED = ("text", "prompts", "examples")

_CARD = """---
base_model: {base}
library_name: {library}
tags:
- {tag}
- lora
- lora_gen
---

# Generated LoRA adapter

This adapter was sampled by lora_gen in one run; it was not trained. It was asked for with:

{asked}

## How it was made

{made}

`lora_gen.json` beside this card holds the same record for programs.

## Load it

```python
{load}
```

## Limits

Nobody has measured this adapter. Try it on inputs of your own before relying on it.
"""

_LOAD_PEFT = """from peft import PeftModel
from transformers import {architecture}
from lora_gen import resolve_base

base = {architecture}.from_pretrained(resolve_base({base}))
model = PeftModel.from_pretrained(base, "path/to/this/folder")"""

_LOAD_DIFFUSERS = """from diffusers import DiffusionPipeline
from lora_gen import resolve_base

pipe = DiffusionPipeline.from_pretrained(resolve_base({base}))
pipe.load_lora_weights(
    "path/to/this/folder",
    weight_name="pytorch_lora_weights.safetensors",
    use_safetensors=True,
)"""


def generated_card(spec: BaseModelSpec, provenance: Mapping[str, Any]) -> str:
    """Text of `README.md` for a generated adapter.

    Args:
        spec: The base it was generated for.
        provenance: The record of the run, as the pipeline gives it.
    """
    load = _LOAD_DIFFUSERS if spec.kind == "diffusers" else _LOAD_PEFT
    asked = {name: provenance[name] for name in _ASKED if provenance.get(name)}
    return _CARD.format(
        base=json.dumps(spec.id),
        library="diffusers" if spec.kind == "diffusers" else "peft",
        tag=json.dumps(f"base_model:adapter:{spec.id}"),
        asked=_listed(asked),
        made=_listed({k: v for k, v in provenance.items() if k not in _ASKED}),
        load=load.format(base=json.dumps(spec.id), architecture=spec.architecture),
    )


def _listed(values: Mapping[str, Any]) -> str:
    """A list of names and values, each value one line of inert code."""
    rows = []
    for name, value in values.items():
        shown = json.dumps(value, default=str)
        if len(shown) > _SHOWN_VALUE:
            shown = shown[:_SHOWN_VALUE] + "…"
        # Two back-quotes fence the value; a run of them inside would end the fence early.
        rows.append(f"- {name}: `` {shown.replace('`', chr(39))} ``")
    return "\n".join(rows)
