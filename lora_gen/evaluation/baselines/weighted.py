"""Weighted sums of a whole zoo, cut to a rank: factors are streamed, delta weights never built.

Shapes: T sums, M components of a block (adapters times rank), K width of the sketch.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from lora_gen.adapter.adapter import Adapter, LoraPair
from lora_gen.adapter.algebra import truncate
from lora_gen.adapter.stack import stacked_factors
from lora_gen.zoo.store import Zoo

_BLOCK = 64
_OVERSAMPLING = 8
_PASSES = 2
"""Subspace iterations; each reads the zoo twice."""

Product = Callable[[str, Tensor, Tensor, Tensor], Tensor]
"""(module, A (M, I), B (O, M), weights (T, M)) -> a block's part of a sum over the zoo."""


def weighted_sums(zoo: Zoo, ids: Sequence[str], weights_TM: Tensor, *, rank: int) -> list[Adapter]:
    """Adapters whose delta weights are weighted sums of the zoo's, each cut to `rank`.

    Randomized subspace iteration (Halko, Martinsson & Tropp, 2011, algorithm 4.4): with a sketch
    some columns wider than `rank`, only products of factors with thin matrices are needed, so a
    sum over thousands of adapters costs no more memory than one block of them. It is exact where
    the sketch is as wide as a module.

    Args:
        zoo: Where the adapters lie.
        ids: Entries, one a column of the weights.
        weights_TM: A row for each sum, (T, entries).
        rank: Rank of the results.
    """
    sketch = _Sketch(zoo, ids, weights_TM.float(), rank + _OVERSAMPLING)
    for _ in range(_PASSES):
        left, thin = sketch.iterate()
    like = zoo.load(ids[0])
    return [
        truncate(
            Adapter(
                pairs={
                    name: sketch.templates[name].with_matrices(thin[name][i], left[name][i])
                    for name in thin
                },
                base=like.base,
                base_revision=like.base_revision,
                task_type=like.task_type,
            ),
            rank,
        )
        for i in range(len(weights_TM))
    ]


class _Sketch:
    """The zoo in blocks, and the subspace that each sum is seen through."""

    def __init__(self, zoo: Zoo, ids: Sequence[str], weights_TM: Tensor, width: int) -> None:
        self.zoo, self.ids, self.weights_TM, self.width = zoo, ids, weights_TM, width
        self.templates: dict[str, LoraPair] = {}
        self.rights: dict[str, Tensor] = {}

    def right(self, name: str) -> Tensor:
        """Columns that span what a sum reads, (T, I, K) or (I, K); random at first."""
        if name not in self.rights:
            pair = self.templates[name]
            shape = (pair.in_features, min(self.width, pair.in_features, pair.out_features))
            source = torch.Generator().manual_seed(zlib.crc32(name.encode()))
            self.rights[name] = torch.randn(shape, generator=source)
        return self.rights[name]

    def iterate(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """One iteration: orthonormal columns Q (T, O, K), and the sums seen by them, Q^T dW."""

        def columns(name: str, a: Tensor, b: Tensor, w: Tensor) -> Tensor:
            return b @ (w[..., None] * (a @ self.right(name)))

        def rows(name: str, a: Tensor, b: Tensor, w: Tensor) -> Tensor:
            seen: Tensor = ((left[name].mT @ b) * w[:, None]) @ a
            return seen

        left = {name: torch.linalg.qr(part).Q for name, part in self.sum_up(columns).items()}
        thin = self.sum_up(rows)
        self.rights = {name: torch.linalg.qr(part.mT).Q for name, part in thin.items()}
        return left, thin

    def sum_up(self, product: Product) -> dict[str, Tensor]:
        """The product of every module, summed over the zoo."""
        sums: dict[str, Tensor] = {}
        for start, adapters in self._blocks():
            for name in sorted({name for adapter in adapters for name in adapter.pairs}):
                pair = next(a.pairs[name] for a in adapters if name in a.pairs)
                self.templates.setdefault(name, pair)
                a_MI, b_OM, owner_M = stacked_factors(name, adapters)
                part = product(
                    name, a_MI.float(), b_OM.float(), self.weights_TM[:, start + owner_M]
                )
                sums[name] = sums[name] + part if name in sums else part
        return sums

    def _blocks(self) -> Iterator[tuple[int, list[Adapter]]]:
        for start in range(0, len(self.ids), _BLOCK):
            yield start, [self.zoo.load(entry_id) for entry_id in self.ids[start : start + _BLOCK]]
