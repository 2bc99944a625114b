"""Directions learned from adapters with and without an attribute, applied at a strength.

A direction is an adapter itself, the mean delta weight of those with the attribute minus that of
those without, cut to a rank. Everything is linear in delta weights, so every edit is the same in
any gauge (GL-equivariant).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.algebra import cross_gram, gram_matrix, inner_product
from lora_gen.errors import AdapterMismatchError, AdapterValueError
from lora_gen.weight_space.merge import Merged, merge_adapters
from lora_gen.weight_space.sums import streamed_sum

DIRECTION_RANK = 16


def direction_between(
    having: Sequence[Adapter], lacking: Sequence[Adapter], *, rank: int = DIRECTION_RANK
) -> Adapter:
    """The direction from `lacking` to `having`: the difference of their mean deltas, at `rank`.

    With as many of both, in the same order, it is the mean of the pairs' differences, and what
    members of a pair share beside the attribute cancels.

    Raises:
        AdapterMismatchError: One side is empty, or bases differ.
    """
    if not having or not lacking:
        raise AdapterMismatchError(
            f"A direction needs adapters with and without the attribute, and has {len(having)} "
            f"and {len(lacking)}. Choose another attribute, or add adapters."
        )
    weights = [1 / len(having)] * len(having) + [-1 / len(lacking)] * len(lacking)
    return streamed_sum([*having, *lacking], weights, rank=rank)


def edit_adapter(
    adapter: Adapter, direction: Adapter, strength: float = 1.0, *, rank: int | None = None
) -> Merged:
    """The adapter moved along a direction; strength 0 leaves it as it is.

    Raises:
        AdapterMismatchError: The direction is of another base.
        AdapterValueError: `strength` is not finite, or `rank` below 1.
    """
    if strength == 0 and (rank is None or rank >= adapter.max_rank):
        return Merged(adapter=adapter, error=0.0, module_errors={})
    return merge_adapters([adapter, direction], [1.0, strength], rank=rank)


def without_direction(adapter: Adapter, direction: Adapter, *, rank: int | None = None) -> Merged:
    """The adapter with its part along the direction taken out.

    Raises:
        AdapterValueError: The direction is zero.
    """
    length = inner_product(direction, direction)
    if not length > 0:
        raise AdapterValueError("The direction is zero, so nothing can be taken out along it.")
    share = inner_product(adapter, direction) / length
    return edit_adapter(adapter, direction, -share, rank=rank)


def interpolated(
    first: Adapter, second: Adapter, share: float, *, rank: int | None = None
) -> Merged:
    """The adapter `share` of the way from the first to the second, on the straight line of deltas.

    Raises:
        AdapterMismatchError: They are of different bases.
    """
    return merge_adapters([first, second], [1 - share, share], rank=rank)


def principal_direction(
    having: Sequence[Adapter],
    lacking: Sequence[Adapter],
    *,
    components: int = 50,
    rank: int = DIRECTION_RANK,
) -> Adapter:
    """The baseline of weights2weights (2406.09413): a linear classifier in PCA coordinates.

    Least squares from the leading principal coordinates to the attribute; the direction is the
    classifier's normal, as long as the difference of the classes' means. Done on the Gram matrix,
    so it does not depend on a gauge, unlike the original's flattened factors.

    Raises:
        AdapterMismatchError: One side is empty.
    """
    if not having or not lacking:
        raise AdapterMismatchError("A direction needs adapters with and without the attribute.")
    zoo = [*having, *lacking]
    label_N = torch.tensor([1.0] * len(having) + [-1.0] * len(lacking), dtype=torch.float64)
    gram_NN = gram_matrix(zoo)
    centered_NN = gram_NN - gram_NN.mean(0) - gram_NN.mean(1)[:, None] + gram_NN.mean()
    values_N, vectors_NN = torch.linalg.eigh(centered_NN)
    kept = min(components, len(zoo) - 1)
    values_K, vectors_NK = values_N[-kept:].clamp_min(1e-12), vectors_NN[:, -kept:]
    # Least squares on coordinates U S: the normal in the adapters' span is U S^-2 U^T label.
    weights_N = vectors_NK @ ((vectors_NK.mT @ (label_N - label_N.mean())) / values_K)
    weights_N = weights_N - weights_N.mean()
    squared = float(weights_N @ gram_NN @ weights_N)
    between_N = torch.where(label_N > 0, 1 / len(having), -1 / len(lacking)).double()
    wanted = float(between_N @ gram_NN @ between_N)
    weights_N = weights_N * (wanted / max(squared, 1e-300)) ** 0.5
    return streamed_sum(zoo, weights_N.tolist(), rank=rank)


def alignment(adapters: Sequence[Adapter], direction: Adapter) -> list[float]:
    """Inner product of each adapter with the direction, over the direction's squared norm."""
    length = max(inner_product(direction, direction), 1e-300)
    return [float(value) / length for value in cross_gram(adapters, [direction])[:, 0]]
