"""Lenses that a generator makes from words, and what a few labeled sentences add to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

import torch

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.stacked import stack_adapters
from lora_gen.evaluation.embedding import Embedder
from lora_gen.evaluation.lens_fitting import LensFitConfig, fit_lenses, lens_adapter
from lora_gen.evaluation.lens_measures import mean_average_precision
from lora_gen.evaluation.lens_reader import LensReader
from lora_gen.evaluation.lenses import (
    Embeds,
    LensTask,
    Way,
    name_anchors,
    once,
    with_adapter,
)
from lora_gen.pipeline import LoraGenPipeline

Find = Callable[[LensTask], Adapter]
"""The lens of a task."""

SHOWN = 4
"""Examples that a generator is shown; it was trained with at most so many."""


def generated_by(pipe: LoraGenPipeline, *, steps: int = 4) -> Callable[..., Adapter]:
    """A function (text, examples) -> lens of a fixed seed, each made once."""

    @cache
    def make(text: str | None, examples: tuple[tuple[str, str], ...] = ()) -> Adapter:
        found = pipe(
            text,
            examples=examples or None,
            num_inference_steps=steps,
            generator=torch.Generator().manual_seed(0),
        )
        return found.adapters[0]

    return make


def generated_ways(reader: Embeds, pipe: LoraGenPipeline) -> dict[str, Way]:
    """What words alone make: said as in training, otherwise, at once, and of another criterion."""
    make, at_once = generated_by(pipe), generated_by(pipe, steps=1)
    finds: dict[str, Find] = {
        "generated": lambda task: make(task.description),
        "generated, values named": lambda task: make(task.named),
        "generated, unseen wording": lambda task: make(task.wording),
        "generated, another criterion's words": lambda task: make(task.other_words),
        "generated, one pass": lambda task: at_once(task.description),
        f"generated, {SHOWN} sentences shown": lambda task: make(
            task.description, task.examples[:SHOWN]
        ),
    }
    return {name: with_adapter(reader, find) for name, find in finds.items()}


def continued(
    trainer: Embedder,
    start: Find,
    count: int,
    config: LensFitConfig,
    *,
    with_names: bool = False,
) -> Find:
    """`start`'s lens, trained on with the first examples of a task.

    Args:
        trainer: The frozen base.
        start: Finds the lens to begin with.
        count: Examples.
        config: How it is trained.
        with_names: Whether the names of the values are anchors.
    """

    def find(task: LensTask) -> Adapter:
        own = replace(config, batch=min(config.batch, count))
        begin = stack_adapters([start(task)])
        anchors = [name_anchors(task)] if with_names else ()
        data = [task.examples[:count]]
        factors = fit_lenses(trainer, data, own, seeds=[0], start=begin, anchors=anchors)
        return lens_adapter(factors, 0, trainer.spec)

    return once(find)


def chosen(reader: LensReader, offer: Callable[[LensTask], Sequence[Adapter]], count: int) -> Find:
    """Of the lenses that are offered, the one that ranks the first examples of a task best."""

    def find(task: LensTask) -> Adapter:
        texts, values = zip(*task.examples[:count], strict=True)
        options = offer(task)
        scores = [mean_average_precision(reader.embed(texts, one), values) for one in options]
        return options[max(range(len(options)), key=scores.__getitem__)]

    return once(find)
