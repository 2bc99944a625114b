"""Orders of hits joined, and rows of a matrix compared with each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

_RANK_OFFSET = 60
"""Of reciprocal rank fusion (Cormack, Clarke & Büttcher, SIGIR 2009)."""


def fused(lists: Sequence[list[tuple[str, float]]]) -> dict[str, float]:
    """Reciprocal rank fusion of several orders."""
    scores: dict[str, float] = {}
    for hits in lists:
        for rank, (entry_id, _) in enumerate(hits, start=1):
            scores[entry_id] = scores.get(entry_id, 0.0) + 1 / (_RANK_OFFSET + rank)
    return scores


def close_pairs(matrix: np.ndarray[Any, Any], threshold: float) -> Iterator[tuple[int, int]]:
    """Pairs of rows i < j with an inner product of at least `threshold`."""
    for start in range(0, len(matrix), 1024):
        scores = matrix[start : start + 1024] @ matrix[start:].T
        for i, j in np.argwhere(scores >= threshold):
            if i < j:
                yield int(start + i), int(start + j)
