"""Adapters too large to hold: `lora-gen generate` writes them while they are made."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lora_gen.cli.card import generated_card
from lora_gen.cli.common import console, print_json, printable, quiet_pipelines

if TYPE_CHECKING:
    from lora_gen.adapter.base_model import BaseModelSpec
    from lora_gen.cli.generate import Asked, Written
    from lora_gen.pipeline import LoraGenPipeline

LARGE = 4_000_000
"""Values of an adapter beyond which it is streamed; the embedded base's have a tenth of it."""


def streamed(asked: Asked, where: Written, *, json_output: bool) -> bool:
    """Write and show the adapter, if one was asked for that is better never held whole."""
    if not is_large(asked, where):
        return False
    from lora_gen.assets import default_generator
    from lora_gen.pipeline import LoraGenPipeline

    quiet_pipelines()
    pipe = LoraGenPipeline.from_pretrained(asked.generator or default_generator())
    record = write_large(pipe, asked, where)
    if json_output:
        print_json({"base": record["base"], "folder": str(where.out), "provenance": record})
    else:
        console().print(f"Saved {printable(str(where.out))}: rank {asked.rank}, streamed.")
    return True


def is_large(asked: Asked, where: Written) -> bool:
    """Whether this is one PEFT adapter of more than `LARGE` values."""
    from lora_gen.adapter.base_model import COMPONENTS, BaseModelSpec, select_targets

    if asked.num != 1 or asked.base is None or where.format == "diffusers":
        return False
    spec = BaseModelSpec.from_config(asked.base)
    names = select_targets(spec, asked.target or "all-linear")
    if names[0].split(".")[0] in COMPONENTS and spec.kind == "diffusers":
        return False
    factors = (shape for name in names for shape in spec.modules[name].factor_shapes(asked.rank))
    return sum(math.prod(shape) for shape in factors) > LARGE


def write_large(pipe: LoraGenPipeline, asked: Asked, where: Written) -> dict[str, Any]:
    """Write the adapter, and return how it was made."""
    from lora_gen.adapter.peft_format import CARD_NAME, PROVENANCE_NAME, json_text
    from lora_gen.pipeline import DEFAULT_GUIDANCE, DEFAULT_STEPS
    from lora_gen.pipeline_stream import StreamOptions, StreamRequest, stream_folder

    def texts(spec: BaseModelSpec, record: dict[str, Any]) -> dict[str, str]:
        return {CARD_NAME: generated_card(spec, record), PROVENANCE_NAME: json_text(record)}

    options = StreamOptions(
        num_inference_steps=DEFAULT_STEPS if asked.steps is None else asked.steps,
        guidance_scale=DEFAULT_GUIDANCE if asked.guidance is None else asked.guidance,
        seed=asked.seed,
        workers=max(1, min(8, len(os.sched_getaffinity(0)))),
    )
    request = StreamRequest(
        text=asked.text,
        prompts=asked.prompts,
        examples=asked.examples,
        base=asked.base,
        rank=asked.rank,
        targets=asked.target or "all-linear",
        allow_untrained=asked.allow_untrained,
    )
    with _progress() as advance:
        return stream_folder(
            pipe,
            where.out,
            request,
            options=options,
            texts=texts,
            exact=where.exact,
            overwrite=where.overwrite,
            progress=advance,
        )


@contextmanager
def _progress() -> Iterator[Any]:
    """A bar of tokens on stderr, and the function that moves it."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task("sampling", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
