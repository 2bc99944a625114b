"""Ways to follow a criterion, on a made-up embedder whose vectors are known."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lora_gen.evaluation.lenses import (
    LensTask,
    linear_map,
    measure,
    whitened,
    with_adapter,
    with_instruction,
)

WIDTH = 6
TOPICS, MOODS = ("cats", "cars", "cake"), ("calm", "cross")


class Words:
    """Embeds a text as the sum of its words' directions: the topic's is three times as long."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def embed(self, texts: list[str], adapter: object = None) -> Tensor:
        self.seen += texts
        axes = torch.eye(WIDTH)
        found = torch.stack([self._one(text, axes) for text in texts])
        return torch.nn.functional.normalize(found, dim=1)

    @staticmethod
    def _one(text: str, axes: Tensor) -> Tensor:
        random = torch.Generator().manual_seed(sum(map(ord, text)) * len(text))
        vector = 0.05 * torch.randn(WIDTH, generator=random)
        for i, word in enumerate((*TOPICS, *MOODS)):
            vector = vector + axes[i] * (word in text) * (3 if word in TOPICS else 1)
        return vector


def task() -> LensTask:
    rows = [(f"{t} {m} {i}", m, t) for i in range(4) for t in TOPICS for m in MOODS]
    return LensTask(
        name="mood",
        description="by mood",
        texts=tuple(text for text, _, _ in rows),
        values=tuple(mood for _, mood, _ in rows),
        sources=tuple(None for _ in rows),
        names={mood: f"it is {mood}" for mood in MOODS},
        examples=tuple((f"{t} {m} for example", m) for t in TOPICS for m in MOODS),
        others={"topic": tuple(topic for _, _, topic in rows)},
    )


def embedder() -> Any:
    return Words()


def base(own: Any) -> dict[str, float]:
    return measure(task(), with_adapter(own, lambda task: None))


def test_the_base_follows_the_topic_and_not_the_mood() -> None:
    found = base(embedder())
    assert found["others"] == 1
    assert found["map"] < 0.9


def test_a_linear_map_from_examples_follows_the_mood_instead() -> None:
    found = measure(task(), linear_map(embedder(), 6))
    assert found["map"] == pytest.approx(1)
    assert found["knn"] == 1
    assert found["zero_shot"] == 1
    assert found["others"] < 0.7


def test_whitened_vectors_of_the_pool_are_uncorrelated() -> None:
    pool = list(task().texts)
    found = whitened(embedder(), pool)(task(), pool)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(len(pool)))
    products = found.T @ found / len(pool) * WIDTH
    torch.testing.assert_close(products, torch.eye(WIDTH), atol=0.25, rtol=0)


def test_an_instruction_stands_in_front_of_every_text() -> None:
    own = embedder()
    with_instruction(own)(task(), ["cats", "cars"])
    assert own.seen == ["by mood: cats", "by mood: cars"]


def test_every_measure_is_a_share() -> None:
    found = base(embedder())
    assert set(found) == {"map", "knn", "zero_shot", "others"}
    assert all(0 <= value <= 1 for value in found.values())
