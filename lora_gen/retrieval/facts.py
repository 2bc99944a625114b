"""What is known of an adapter's training, as questions with a few answers each.

Every answer that an encoder gives to them is a figure beside a measured hit rate, never a
certainty.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lora_gen.retrieval.corpus import Corpus

FACTS: dict[str, tuple[str, ...]] = {
    "training examples": ("about 4", "about 16", "about 100"),
    "wrong labels": ("none", "some"),
    "training": ("too little", "about right", "too hard"),
    "oddness": ("ordinary", "odd"),
}
"""Question -> answers."""

SHOWN = ("wrong labels", "training", "oddness")
"""Questions whose answers beat guessing on recipes that the shipped encoder never saw; how many
examples there were is asked and reported, but its answers did not."""

_FEW, _SOME = 8, 40
_WEAK = 0.5
_LITTLE, _HARD = 0.1, 0.7
"""Steps times learning rate, below or above which a weak adapter was trained too little or hard."""
_ODD = ("broken", "noise")


def fact_labels(corpus: Corpus, entries: Sequence[int]) -> dict[str, Tensor]:
    """Number of the right answer to each question, -1 where it is unknown, (B,)."""
    found: dict[str, list[int]] = {name: [] for name in FACTS}
    for entry in entries:
        known = json.loads(corpus.facts[entry])
        accuracy = float(corpus.accuracy[entry])
        for name, answer in _ANSWERS.items():
            found[name].append(answer(known, accuracy) if known.get("recipe") else -1)
    return {name: torch.tensor(answers) for name, answers in found.items()}


def _examples(known: Mapping[str, Any], accuracy: float) -> int:
    count = known["recipe"]["examples"]
    return 0 if count < _FEW else 1 if count < _SOME else 2


def _wrong(known: Mapping[str, Any], accuracy: float) -> int:
    return int(known["recipe"]["wrong"] > 0)


def _training(known: Mapping[str, Any], accuracy: float) -> int:
    dose = known["recipe"]["steps"] * known["recipe"]["lr"]
    if known.get("fault") or accuracy != accuracy:
        return -1
    if accuracy >= _WEAK:
        return 1
    return 0 if dose < _LITTLE else 2 if dose > _HARD else -1


def _odd(known: Mapping[str, Any], accuracy: float) -> int:
    return int(known.get("fault") in _ODD)


_ANSWERS: dict[str, Callable[[Mapping[str, Any], float], int]] = {
    "training examples": _examples,
    "wrong labels": _wrong,
    "training": _training,
    "oddness": _odd,
}
