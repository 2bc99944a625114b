"""Lenses from words, and what labeled sentences add, with a generator that is made up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lora_gen.adapter.adapter import Adapter
from lora_gen.errors import ConfigError
from lora_gen.evaluation import lens_generated
from lora_gen.evaluation.embedding import Embedder
from lora_gen.evaluation.lens_fitting import (
    LensFitConfig,
    fit_lenses,
    initial_factors,
    lens_adapter,
)
from lora_gen.evaluation.lens_generated import chosen, continued, generated_ways
from lora_gen.evaluation.lens_reader import LensReader
from lora_gen.evaluation.lenses import LensTask, name_anchors

EXAMPLES = tuple(
    (f"the {thing} is {how}", value)
    for thing in ("cat", "car")
    for value, how in (("hot", "boiling"), ("cold", "freezing"))
)
TASK = LensTask(
    name="warmth",
    description="by warmth",
    wording="what a thermometer says",
    other_words="by tense",
    named="by warmth (hot or cold)",
    texts=tuple(text for text, _ in EXAMPLES),
    values=tuple(value for _, value in EXAMPLES),
    sources=(None,) * 4,
    names={"hot": "warmth: hot", "cold": "warmth: cold"},
    examples=EXAMPLES,
)


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder.from_pretrained()


def lens_of(embedder: Embedder, seed: int, size: float = 0.02) -> Adapter:
    factors = initial_factors(embedder.spec, [seed], 2)
    filled = {name: (a, torch.full_like(b, size)) for name, (a, b) in factors.items()}
    return lens_adapter(filled, 0, embedder.spec)


class Pipe:
    """Remembers what it was asked; the lens depends on nothing else."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder, self.asked = embedder, list[tuple[Any, ...]]()

    def __call__(
        self, text: str, *, examples: Any, num_inference_steps: int, generator: Any
    ) -> Any:
        self.asked.append((text, examples, num_inference_steps))
        return SimpleNamespace(adapters=[lens_of(self.embedder, len(self.asked))])


def test_every_way_asks_in_its_own_words_and_once(embedder: Embedder) -> None:
    pipe, reader = Pipe(embedder), LensReader(embedder)
    for way in generated_ways(reader, pipe).values():  # type: ignore[arg-type]
        for _ in range(2):
            assert way(TASK, TASK.texts).shape == (4, 384)
    assert pipe.asked == [
        ("by warmth", None, 4),
        ("by warmth (hot or cold)", None, 4),
        ("what a thermometer says", None, 4),
        ("by tense", None, 4),
        ("by warmth", None, 1),
        ("by warmth", EXAMPLES, 4),
    ]


def test_a_continued_lens_starts_where_it_was(embedder: Embedder) -> None:
    start = lens_of(embedder, 3)
    still = LensFitConfig(rank=2, steps=1, batch=4, lr=0.0)
    found = continued(embedder, lambda task: start, 4, still)(TASK)
    for name, pair in start.pairs.items():
        torch.testing.assert_close(found.pairs[name].lora_a, pair.lora_a)
        torch.testing.assert_close(found.pairs[name].lora_b, pair.lora_b * pair.scaling)


def test_a_lens_is_continued_with_names_where_they_are_asked_for(
    embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    factors = initial_factors(embedder.spec, [0], 2)
    keep = lambda *a, **k: (given.append(k["anchors"]), factors)[1]  # noqa: E731
    monkeypatch.setattr(lens_generated, "fit_lenses", keep)
    start = lens_of(embedder, 3)
    continued(embedder, lambda task: start, 4, LensFitConfig(), with_names=True)(TASK)
    assert given == [[name_anchors(TASK)]]


def test_the_lens_that_ranks_the_examples_best_is_chosen(embedder: Embedder) -> None:
    data = [list(EXAMPLES)]
    config = LensFitConfig(rank=2, steps=8, batch=4, lr=1e-2)
    good = lens_adapter(fit_lenses(embedder, data, config, seeds=[0]), 0, embedder.spec)
    bad = lens_of(embedder, 1, 0.0)
    find = chosen(LensReader(embedder), lambda task: [bad, good], 4)
    assert find(TASK) is good


def test_training_from_other_modules_than_a_lens_has_is_refused(embedder: Embedder) -> None:
    start = {"encoder.layer.0.attention.self.query": (torch.ones(1, 1, 384), torch.ones(1, 384, 1))}
    with pytest.raises(ConfigError, match=r"but a lens adapts only layer\.4"):
        fit_lenses(embedder, [list(EXAMPLES)], LensFitConfig(), seeds=[0], start=start)
