"""How new an adapter is: its nearest zoo adapter, against how near zoo adapters are to each other.

After the memorization test of Zeng et al. (2025) and the novel-and-performant rate, carried over to
delta weights: distances are gauge-free and need no dense matrix. Shapes: L adapters, M entries.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.algebra import gram_matrix
from lora_gen.errors import AdapterValueError, ZooError
from lora_gen.evaluation.distances import blocks, gram_with_zoo
from lora_gen.zoo.store import Zoo

THRESHOLDS = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
"""Multiples of the median leave-one-out distance, fixed before anything is sampled."""
COPY = 0.1
"""Below this multiple an adapter is a copy."""
SAMPLE = 256
"""Entries whose own nearest neighbors are the reference; a percentile then errs by 3 points."""
_GROUP = 128


@dataclass(frozen=True, kw_only=True)
class Novelty:
    """One adapter beside its nearest zoo adapter; distance is 1 - cosine of delta weights."""

    nearest_id: str
    nearest_task: str
    cosine: float
    distance: float
    relative: float
    """Distance over the zoo's median leave-one-out distance."""
    percentile: float
    """Share of zoo entries that are nearer to their own nearest neighbor, 0 to 1."""
    frobenius_relative: float
    """The same multiple for the Frobenius norm of the difference, to its own nearest entry."""


@dataclass(frozen=True, kw_only=True)
class _Nearest:
    """Of each adapter: its nearest entry by cosine, and its least Frobenius distance."""

    index_L: Tensor
    cosine_L: Tensor
    frobenius_L: Tensor


class ZooReference:
    """The zoo's own leave-one-out distances: what "as new as another zoo adapter" means.

    An entry's left-out neighbors exclude its own family: several saves of one training lie so close
    that any generator would look new beside them.

    Raises:
        ZooError: Fewer than two families are left to compare.
    """

    def __init__(
        self, zoo: Zoo, ids: Sequence[str], *, sample: int = SAMPLE, seed: int = 0
    ) -> None:
        self.zoo, self.ids = zoo, list(ids)
        self.families = [zoo.get(entry_id).family for entry_id in self.ids]
        if len(set(self.families)) < 2:
            raise ZooError(
                f"The zoo has adapters of {len(set(self.families))} families to compare with, and "
                "an audit needs at least 2. Audit with the zoo that the generator learned from."
            )
        drawn = random.Random(seed).sample(range(len(self.ids)), min(sample, len(self.ids)))
        self.sampled = sorted(drawn)
        found = [
            self._nearest(adapters, [self.families[i] for i in numbers])
            for numbers, adapters in self._sampled_blocks()
        ]
        self.distances = torch.cat([1 - part.cosine_L for part in found]).sort().values
        self.median = max(float(self.distances.median()), 1e-9)
        frobenius = torch.cat([part.frobenius_L for part in found])
        self.frobenius_median = max(float(frobenius.median()), 1e-9)

    def novelty(
        self, adapters: Sequence[Adapter], *, families: Sequence[str] | None = None
    ) -> list[Novelty]:
        """How new each adapter is.

        Args:
            adapters: Of the zoo's base.
            families: Entries of an adapter's own family do not count as its neighbors.

        Raises:
            AdapterValueError: An adapter has no effect, so it has no direction.
            AdapterMismatchError: An adapter's modules have other shapes than the zoo's.
        """
        found: list[Novelty] = []
        for start in range(0, len(adapters), _GROUP):
            part = adapters[start : start + _GROUP]
            left_out = families[start : start + _GROUP] if families is not None else None
            near = self._nearest(part, left_out)
            found += [self._novelty(near, i) for i in range(len(part))]
        return found

    def _novelty(self, near: _Nearest, i: int) -> Novelty:
        entry_id = self.ids[int(near.index_L[i])]
        distance = max(1 - float(near.cosine_L[i]), 0.0)
        return Novelty(
            nearest_id=entry_id,
            nearest_task=self.zoo.get(entry_id).task,
            cosine=float(near.cosine_L[i]),
            distance=distance,
            relative=distance / self.median,
            percentile=float((self.distances < distance).double().mean()),
            frobenius_relative=float(near.frobenius_L[i]) / self.frobenius_median,
        )

    def _nearest(self, adapters: Sequence[Adapter], left_out: Sequence[str] | None) -> _Nearest:
        gram_LM, square_M = gram_with_zoo(adapters, self.zoo, self.ids)
        square_L = torch.cat([gram_matrix([adapter])[0] for adapter in adapters])
        if not bool((square_L > 0).all()):
            raise AdapterValueError(
                f"Adapter {int((square_L <= 0).nonzero()[0]) + 1} of {len(adapters)} has a zero "
                "delta weight, so it is like no other. Train it, or leave it out."
            )
        norms_LM = square_L.sqrt()[:, None] * square_M.sqrt().clamp_min(1e-30)
        cosine_LM = (gram_LM / norms_LM).clamp(-1, 1)
        frobenius_LM = (square_L[:, None] + square_M - 2 * gram_LM).clamp_min(0).sqrt()
        if left_out is not None:
            own_LM = torch.tensor([[name == own for name in self.families] for own in left_out])
            cosine_LM[own_LM], frobenius_LM[own_LM] = -2.0, float("inf")
        cosine_L, index_L = cosine_LM.max(1)
        return _Nearest(index_L=index_L, cosine_L=cosine_L, frobenius_L=frobenius_LM.min(1).values)

    def _sampled_blocks(self) -> Iterator[tuple[list[int], list[Adapter]]]:
        """(numbers, adapters) of the sampled entries, some at a time."""
        start = 0
        for adapters in blocks(self.zoo, [self.ids[i] for i in self.sampled]):
            yield self.sampled[start : start + len(adapters)], adapters
            start += len(adapters)


def verdict(name: str, novelty: Novelty, overlap: float | None = None) -> str:
    """One sentence a person understands."""
    near = f"`{novelty.nearest_task}` (cosine {novelty.cosine:.2f})"
    mistakes = "" if overlap is None else f"; it shares {overlap:.0%} of that adapter's mistakes"
    if novelty.relative < COPY:
        return f"`{name}` is a copy of the zoo adapter {near}{mistakes}."
    if novelty.percentile < 0.05:
        return (
            f"`{name}` is a variation of the zoo adapter {near}: fewer than 5% of zoo adapters are "
            f"as near to another{mistakes}."
        )
    return (
        f"`{name}` is new: its nearest zoo adapter is {near}, farther away than "
        f"{novelty.percentile:.0%} of zoo adapters are from theirs{mistakes}."
    )
