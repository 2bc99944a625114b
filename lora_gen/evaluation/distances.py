"""Inner products of zoo adapters in blocks: memory stays flat however large the zoo.

Shapes: L adapters or entries on the left, M entries on the right.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.algebra import cross_gram, gram_matrix
from lora_gen.zoo.store import Zoo

_BLOCK = 128


def zoo_gram(zoo: Zoo, left: Sequence[str], right: Sequence[str]) -> Tensor:
    """Inner products of the delta weights of entries with entries, (L, M) float64."""
    rows = []
    for adapters in blocks(zoo, left):
        columns = [cross_gram(adapters, others) for others in blocks(zoo, right)]
        rows.append(torch.cat(columns, 1))
    return torch.cat(rows)


def gram_with_zoo(
    adapters: Sequence[Adapter], zoo: Zoo, ids: Sequence[str]
) -> tuple[Tensor, Tensor]:
    """Inner products of adapters with entries, (L, M), and the entries' squared norms, (M,)."""
    columns, squares = [], []
    for others in blocks(zoo, ids):
        columns.append(cross_gram(adapters, others))
        squares += [gram_matrix([other])[0] for other in others]
    return torch.cat(columns, 1), torch.cat(squares)


def blocks(zoo: Zoo, ids: Sequence[str]) -> Iterator[list[Adapter]]:
    """The entries' adapters, some at a time."""
    for start in range(0, len(ids), _BLOCK):
        yield [zoo.load(entry_id) for entry_id in ids[start : start + _BLOCK]]
