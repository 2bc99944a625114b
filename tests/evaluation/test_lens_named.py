"""Lenses from the names of values, on a made-up embedder and on the real one."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch

from lora_gen.evaluation import lens_named
from lora_gen.evaluation.embedding import Embedder
from lora_gen.evaluation.lens_fitting import LensFitConfig
from lora_gen.evaluation.lens_named import guessed, on_names, taught
from lora_gen.evaluation.lens_reader import LensReader
from lora_gen.evaluation.lenses import LensTask, few_shot, name_anchors

AXES = torch.eye(4)
TASK = LensTask(
    name="warmth",
    description="by warmth",
    texts=(
        "the tea is boiling",
        "the tea is ice cold",
        "the car is boiling",
        "the car is ice cold",
    ),
    values=("hot", "cold", "hot", "cold"),
    sources=(None,) * 4,
    names={"hot": "warmth: hot", "cold": "warmth: cold"},
    examples=(("a hot day", "hot"), ("a cold day", "cold")) * 2,
)


class Words:
    """hot and cold on two axes, everything else on two others."""

    def embed(self, texts: list[str], adapter: object = None) -> torch.Tensor:
        rows = [
            AXES[0] * ("hot" in text or "boiling" in text)
            + AXES[1] * ("cold" in text)
            + 3 * AXES[2] * ("tea" in text)
            + 3 * AXES[3] * ("car" in text)
            for text in texts
        ]
        return torch.nn.functional.normalize(torch.stack(rows), dim=1)


def test_only_what_tells_the_names_apart_is_kept() -> None:
    found = on_names(Words())(TASK, list(TASK.texts))  # type: ignore[arg-type]
    same = found @ found.mT
    assert found.shape == (4, 1)
    assert bool((same[0, 2] > 0.9) & (same[0, 1] < -0.9))


def test_the_surest_texts_of_each_value_are_guessed() -> None:
    vectors = torch.tensor([[1.0, 0], [0.9, 0.1], [0, 1.0], [0.45, 0.55]])
    found = guessed(["a", "b", "c", "d"], vectors, ["x", "y"], torch.eye(2), count=1)
    assert found == [("a", "x"), ("c", "y")]


def test_a_value_with_a_common_name_does_not_take_all() -> None:
    random = torch.Generator().manual_seed(0)
    vectors = torch.randn(40, 3, generator=random) * torch.tensor([0.2, 2.0, 1.0])
    found = guessed([str(i) for i in range(40)], vectors, ["x", "y", "z"], torch.eye(3), count=40)
    assert min(Counter(value for _, value in found).values()) >= 8


@pytest.mark.parametrize("with_names", [True, False])
def test_names_are_anchors_where_they_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, with_names: bool
) -> None:
    from lora_gen.evaluation import lenses

    given: list[Any] = []
    monkeypatch.setattr(lenses, "fit_lenses", lambda *a, **k: given.append(k["anchors"]))
    monkeypatch.setattr(lenses, "lens_adapter", lambda *a: "lens")
    find = few_shot(MagicMock(), 4, LensFitConfig(), with_names=with_names)
    assert find(TASK) == "lens"
    assert list(given[0]) == ([name_anchors(TASK)] if with_names else [])


def test_a_lens_is_taught_by_names_alone_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, seen = LensReader(Embedder.from_pretrained()), list[Any]()
    fit = lens_named.fit_lenses
    monkeypatch.setattr(
        lens_named, "fit_lenses", lambda *a, **k: (seen.append(a[1]), fit(*a, **k))[1]
    )
    find = taught(reader, list(TASK.texts), LensFitConfig(rank=1, steps=2))
    lens = find(TASK)
    assert find(replace(TASK, texts=("other",))) is lens
    assert len(seen) == 1
    assert {value for _, value in seen[0][0]} == {"hot", "cold"}
    assert {pair.rank for pair in lens.pairs.values()} == {1}
