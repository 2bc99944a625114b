"""How adapters descend from each other, from their weights alone.

Delta weights of unrelated adapters of one base are nearly orthogonal, so what is left over is
telling: equal deltas are copies, one that is the other's leading part is a truncation, one that is
a positive sum of others is a merge, and a shared row space with another length is the same run at
another step (A hardly leaves its random start, so its rows name the run).

Shapes: N adapters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.algebra import core_svd, cross_gram, truncate

Kind = Literal["copy", "scaled", "truncated", "variant", "checkpoint", "merged"]

COPY = 5e-3
"""Largest relative distance of a copy: float16 rounding stays far below it."""
VARIANT = 0.3
"""Largest relative distance of what was quantized or noised."""
ALONG = 0.3
"""Largest cosine of a variant's difference with its original."""
RELATED = 0.15
"""Smallest cosine that unrelated adapters do not reach."""
RUN = 0.5
"""Smallest overlap of row spaces within one training run."""
EXPLAINED, EXPLAINED_CUT = 0.9, 0.35
"""Least share of a merge's squared norm that its parents explain: at a rank that holds them all,
and cut to a rank no larger than theirs."""
MOST_PARENTS = 8
_BLOCK = 64
_SIMPLEST: tuple[Kind, ...] = ("copy", "truncated", "scaled", "variant")
_ZERO = 1e-3


@dataclass(frozen=True, kw_only=True)
class Relation:
    """One adapter and what it was made from."""

    child: str
    parents: tuple[str, ...]
    kind: Kind
    weights: tuple[float, ...]
    """Weight of each parent in the child's delta, as far as the parents explain it."""
    explained: float
    """Share of the child's squared norm that the parents explain, 0 to 1."""


@dataclass(frozen=True)
class _Zoo:
    names: tuple[str, ...]
    adapters: tuple[Adapter, ...]
    gram_NN: Tensor

    def length(self, i: int) -> float:
        return float(self.gram_NN[i, i].clamp_min(0).sqrt())

    def cosine(self, i: int, j: int) -> float:
        return float(self.gram_NN[i, j]) / max(self.length(i) * self.length(j), 1e-300)


def lineage(adapters: Mapping[str, Adapter]) -> list[Relation]:
    """A relation for each adapter that descends from others; those without one are roots.

    Between equals (copies) the later in the mapping's order is the child; of a truncation the one
    of lower rank; of two steps of a run the longer one; of a merge the sum.

    Raises:
        AdapterMismatchError: Adapters are of different bases.
    """
    zoo = _Zoo(tuple(adapters), tuple(adapters.values()), _blocked_gram(list(adapters.values())))
    count = len(zoo.names)
    near = [
        [j for j in range(count) if j != child and zoo.cosine(child, j) > RELATED]
        for child in range(count)
    ]
    found = {child: _copied(zoo, child, near[child]) for child in range(count)}
    originals = {child for child, relation in found.items() if relation is None}
    for child in originals:
        found[child] = _merged(zoo, child, [j for j in near[child] if j in originals])
    # What was made of an adapter shares its rows too, but was not on the way to it.
    made = {child for child, relation in found.items() if relation is not None}
    for child in range(count):
        if found[child] is None:
            found[child] = _same_run(zoo, child, [j for j in near[child] if j not in made])
    return [relation for relation in found.values() if relation is not None]


def _copied(zoo: _Zoo, child: int, near: Sequence[int]) -> Relation | None:
    """The nearest adapter of which the child is a copy, a multiple, a leading part or a variant."""
    # Of several copies or multiples the first is the original; else the nearest is.
    found = [
        (_SIMPLEST.index(kind), 0.0 if kind in ("copy", "scaled") else distance, parent)
        for parent in near
        for distance, kind in _alike(zoo, child, parent)
    ]
    if not found:
        return None
    number, _, parent = min(found)
    kind = _SIMPLEST[number]
    weight = float(zoo.gram_NN[child, parent] / zoo.gram_NN[parent, parent].clamp_min(1e-300))
    return Relation(
        child=zoo.names[child],
        parents=(zoo.names[parent],),
        kind=kind,
        weights=(weight,),
        explained=zoo.cosine(child, parent) ** 2,
    )


def _alike(zoo: _Zoo, child: int, parent: int) -> Iterator[tuple[float, Kind]]:
    """Distances at which the child is something simple of the parent."""
    g, later = zoo.gram_NN, child > parent
    squared = float(g[child, child] + g[parent, parent] - 2 * g[child, parent])
    apart = max(squared, 0.0) ** 0.5 / max(zoo.length(child), 1e-300)
    turned = (2 * max(0.0, 1 - zoo.cosine(child, parent))) ** 0.5
    if apart < COPY and later:
        yield apart, "copy"
    elif apart >= COPY > turned and later:
        yield turned, "scaled"
    ranks = _rank(zoo.adapters[child]), _rank(zoo.adapters[parent])
    if ranks[0] < ranks[1]:
        cut = truncate(zoo.adapters[parent], ranks[0])
        cross = cross_gram([cut, zoo.adapters[child]], [cut, zoo.adapters[child]])
        left = float(cross[0, 0] + cross[1, 1] - 2 * cross[0, 1])
        distance = max(left, 0.0) ** 0.5 / max(zoo.length(child), 1e-300)
        if distance < COPY:
            yield distance, "truncated"
    if COPY <= apart < VARIANT and turned >= COPY and later and ranks[0] >= ranks[1]:
        # Noise has no direction; a run goes on growing along what it has learned.
        along = float(g[child, parent] - g[parent, parent]) / zoo.length(parent)
        if abs(along) < ALONG * apart * zoo.length(child):
            yield apart, "variant"


def _merged(zoo: _Zoo, child: int, near: Sequence[int]) -> Relation | None:
    """Parents whose positive sum is the child, found one after the other (matching pursuit).

    Parents of a smaller rank explain nearly all of it. Where the merge was cut to the parents' own
    rank they explain less, and are then asked to be unrelated to each other: a task is also half
    explained by several merges that it went into, but those are related through it.
    """
    rank = _rank(zoo.adapters[child])
    ranks = {j: _rank(zoo.adapters[j]) for j in near}
    smaller = _pursued(zoo, child, [j for j in near if ranks[j] < rank], apart=1 - COPY)
    if len(smaller[0]) > 1 and smaller[2] >= EXPLAINED:
        return _merge_of(zoo, child, *smaller)
    equal = _pursued(zoo, child, [j for j in near if ranks[j] <= rank], apart=RELATED)
    if len(equal[0]) > 1 and equal[2] >= EXPLAINED_CUT:
        return _merge_of(zoo, child, *equal)
    return None


def _pursued(
    zoo: _Zoo, child: int, pool: Sequence[int], *, apart: float
) -> tuple[list[int], Tensor, float]:
    """Parents from the pool with cosines below `apart` between them, weights, share explained."""
    chosen: list[int] = []
    weights_N = torch.zeros(0, dtype=torch.float64)
    total, g = float(zoo.gram_NN[child, child]), zoo.gram_NN
    while len(chosen) < MOST_PARENTS:
        left = {
            j: float(g[child, j] - (g[j, chosen] @ weights_N if chosen else 0)) / zoo.length(j)
            for j in pool
            if j not in chosen and all(zoo.cosine(j, k) < apart for k in chosen)
        }
        best = max(left, key=lambda j: left[j], default=None)
        if best is None or left[best] <= 0 or left[best] ** 2 < 0.005 * total:
            break
        fitted_N = torch.linalg.solve(
            g[[*chosen, best]][:, [*chosen, best]], g[[*chosen, best], child]
        )
        if float(fitted_N.min()) <= 0:
            break
        chosen.append(best)
        weights_N = fitted_N
    explained = float(weights_N @ g[chosen, child]) / total if chosen else 0.0
    return chosen, weights_N, explained


def _merge_of(
    zoo: _Zoo, child: int, chosen: Sequence[int], weights_N: Tensor, explained: float
) -> Relation:
    return Relation(
        child=zoo.names[child],
        parents=tuple(zoo.names[j] for j in chosen),
        kind="merged",
        weights=tuple(round(float(w), 4) for w in weights_N),
        explained=min(explained, 1.0),
    )


def _same_run(zoo: _Zoo, child: int, near: Sequence[int]) -> Relation | None:
    """The nearest shorter adapter whose rows span the same space."""
    best: tuple[float, int] | None = None
    for parent in near:
        if zoo.length(parent) >= zoo.length(child):
            continue
        if row_overlap(zoo.adapters[child], zoo.adapters[parent]) < RUN:
            continue
        g = zoo.gram_NN
        squared = float(g[child, child] + g[parent, parent] - 2 * g[child, parent])
        if best is None or squared < best[0]:
            best = (squared, parent)
    if best is None:
        return None
    parent = best[1]
    return Relation(
        child=zoo.names[child],
        parents=(zoo.names[parent],),
        kind="checkpoint",
        weights=(float(zoo.gram_NN[child, parent] / zoo.gram_NN[parent, parent]),),
        explained=zoo.cosine(child, parent) ** 2,
    )


def row_overlap(first: Adapter, second: Adapter) -> float:
    """How much of the smaller row space lies in the other's, 0 to 1, over shared modules."""
    shares = []
    for name in first.pairs.keys() & second.pairs.keys():
        left, right = (_rows(adapter, name) for adapter in (first, second))
        smaller = min(left.shape[1], right.shape[1])
        if smaller:
            shares.append(float((left.mT @ right).square().sum()) / smaller)
    return sum(shares) / len(shares) if shares else 0.0


def _rows(adapter: Adapter, name: str) -> Tensor:
    """Orthonormal rows of a module's delta, (I, its rank)."""
    _, s_R, v_IR = core_svd(adapter.pairs[name])
    return v_IR[:, s_R > _ZERO * s_R.max()]


def _rank(adapter: Adapter) -> int:
    """The largest rank of a delta weight, zero padding and rounding aside."""
    return max(_rows(adapter, name).shape[1] for name in adapter.pairs)


def _blocked_gram(adapters: Sequence[Adapter]) -> Tensor:
    blocks = [adapters[i : i + _BLOCK] for i in range(0, len(adapters), _BLOCK)]
    rows = [torch.cat([cross_gram(left, right) for right in blocks], dim=1) for left in blocks]
    return torch.cat(rows)
