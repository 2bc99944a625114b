"""Laws of the measures: what is perfect, what is chance, what must not matter."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lora_gen.evaluation.lens_measures import (
    knn_accuracy,
    mean_average_precision,
    zero_shot_accuracy,
)

LABELS = ["a", "b", "c"] * 20


def clusters(spread: float, seed: int = 0) -> Tensor:
    """Unit vectors, one axis a label, with noise."""
    random = torch.Generator().manual_seed(seed)
    centers = torch.eye(8)[[LABELS.index(label) for label in LABELS]]
    noise = torch.randn(len(LABELS), 8, generator=random)
    return torch.nn.functional.normalize(centers + spread * noise, dim=1)


def test_separated_values_score_one() -> None:
    vectors = clusters(0.01)
    assert mean_average_precision(vectors, LABELS) == 1
    assert knn_accuracy(vectors, LABELS) == 1
    assert zero_shot_accuracy(vectors, LABELS, ["a", "b", "c"], torch.eye(8)[:3]) == 1


def test_noise_scores_about_the_share_of_a_value() -> None:
    noise = clusters(1e6)
    assert mean_average_precision(noise, LABELS) == pytest.approx(1 / 3, abs=0.08)
    assert knn_accuracy(noise, LABELS) < 0.6


@pytest.mark.parametrize("measure", [mean_average_precision, knn_accuracy])
def test_turning_all_vectors_and_renaming_values_change_nothing(measure) -> None:
    vectors = clusters(0.6)
    turn = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(1)))[0]
    renamed = [{"a": "z", "b": "y", "c": "x"}[label] for label in LABELS]
    assert measure(vectors @ turn, renamed) == pytest.approx(measure(vectors, LABELS))


@pytest.mark.parametrize("measure", [mean_average_precision, knn_accuracy])
def test_the_same_word_again_earns_nothing(measure) -> None:
    words = torch.eye(8)[[0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]]
    values, sources = list("aaaaaabbbbbb"), list("wwwxxxyyyzzz")
    vectors = words + 0.01 * torch.randn(12, 8, generator=torch.Generator().manual_seed(2))
    assert measure(vectors, values) > 0.7
    assert measure(vectors, values, sources=sources) < 0.7


def test_mean_average_precision_is_that_of_a_small_example() -> None:
    angles = torch.tensor([0.0, 0.1, 0.3, 0.6])
    vectors = torch.stack([angles.cos(), angles.sin()], dim=1)
    # Ranked from each: b a b | b a b | b a b | a b b, of values a b a b.
    expected = (1 / 2 + 1 / 3 + 1 / 3 + 1 / 2) / 4
    assert mean_average_precision(vectors, ["a", "b", "a", "b"]) == pytest.approx(expected)


def test_a_sentence_without_companion_is_not_asked() -> None:
    vectors = torch.eye(3)[[0, 0, 1]]
    assert mean_average_precision(vectors, ["a", "a", "b"]) == 1
    found = mean_average_precision(torch.eye(3)[[0, 0, 1, 2]], list("aaab"), sources=list("wwwx"))
    assert found != found, "nothing can be asked, so there is no score"
