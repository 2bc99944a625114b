"""A soup of neighbors: the text-weighted mean of the nearest descriptions' delta weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.algebra import add, truncate
from lora_gen.evaluation.baselines.nearest import NearestText
from lora_gen.zoo.store import Zoo

TEMPERATURE = 0.05
"""Of the softmax over cosines: a neighbor that is 0.05 nearer weighs e times as much."""


def text_soups(
    zoo: Zoo, nearest: NearestText, texts: Sequence[str], *, count: int, rank: int
) -> list[Adapter]:
    """For each text, the weighted mean of its `count` nearest adapters' delta weights, at `rank`.

    Averaged on delta weights (model soups, Wortsman et al., 2022; on factors a mean depends on the
    gauge), by QR of the stacked factors.
    """
    soups = []
    for near in nearest.neighbors(texts, count):
        cosines = torch.tensor([cosine for _, cosine in near])
        weights = torch.softmax(cosines / TEMPERATURE, 0).tolist()
        soups.append(truncate(add([zoo.load(i) for i, _ in near], weights), rank))
    return soups
