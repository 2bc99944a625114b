"""What a lens is judged by: do vectors of like sentences lie together?"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

NEIGHBORS = 8

Sources = Sequence[Hashable]
"""What realizes a sentence's value, such as a word; two sentences of one source are not compared,
or a lens would be praised for seeing the same word again. None is a source of its own."""


def mean_average_precision(
    vectors_NE: Tensor, labels: Sequence[str], *, sources: Sources | None = None
) -> float:
    """How far in front the sentences of the same value rank, each sentence asking once.

    Average precision of the ranking of all others by cosine, averaged over the sentences that have
    a companion. Drawn at random it is about the share of a value.

    Args:
        vectors_NE: Unit vectors.
        labels: The value of each sentence.
        sources: What realizes it.
    """
    order_NN, is_other_NN = _ranking(vectors_NE, sources)
    hits_NN = (_same(labels).gather(1, order_NN) & is_other_NN).double()
    ranks_NN = is_other_NN.cumsum(1).clamp_min(1)
    precision_NN = hits_NN.cumsum(1) / ranks_NN
    counts_N = hits_NN.sum(1)
    average_N = (precision_NN * hits_NN).sum(1) / counts_N.clamp_min(1)
    return float(average_N[counts_N > 0].mean())


def knn_accuracy(
    vectors_NE: Tensor,
    labels: Sequence[str],
    *,
    sources: Sources | None = None,
    neighbors: int = NEIGHBORS,
) -> float:
    """Share of sentences whose nearest others vote for their own value; ties go to the nearest."""
    order_NK, is_other_NK = (part[:, :neighbors] for part in _ranking(vectors_NE, sources))
    numbers_N = _numbers(labels)
    votes_NV = torch.zeros(len(labels), int(numbers_N.max()) + 1, dtype=torch.double)
    weights_NK = (1 - 1e-6 * torch.arange(order_NK.shape[1])).double() * is_other_NK
    votes_NV.scatter_add_(1, numbers_N[order_NK], weights_NK)
    return float((votes_NV.argmax(1) == numbers_N).double().mean())


def zero_shot_accuracy(
    vectors_NE: Tensor, labels: Sequence[str], names: Sequence[str], names_VE: Tensor
) -> float:
    """Share of sentences whose nearest value name is their own.

    Args:
        vectors_NE: Unit vectors of the sentences.
        labels: The value of each.
        names: All values.
        names_VE: Unit vectors of their names, under the same lens.
    """
    found = (vectors_NE @ names_VE.mT).argmax(1).tolist()
    hits = sum(names[i] == label for i, label in zip(found, labels, strict=True))
    return float(hits / len(labels))


def _ranking(vectors_NE: Tensor, sources: Sources | None) -> tuple[Tensor, Tensor]:
    """(all others of each row, the nearest first; which of them count, those in front)."""
    similarity_NN = vectors_NE.double() @ vectors_NE.double().mT
    similarity_NN.fill_diagonal_(-torch.inf)
    if sources is not None:
        own = [source if source is not None else (i,) for i, source in enumerate(sources)]
        similarity_NN[_same(own)] = -torch.inf
    order_NN = similarity_NN.argsort(1, descending=True)[:, :-1]
    return order_NN, similarity_NN.gather(1, order_NN) > -torch.inf


def _numbers(labels: Sequence[Hashable]) -> Tensor:
    known = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    return torch.tensor([known[label] for label in labels])


def _same(labels: Sequence[Hashable]) -> Tensor:
    numbers_N = _numbers(labels)
    return numbers_N[:, None] == numbers_N
