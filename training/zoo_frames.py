"""Frames of a base from adapters: the directions that their delta weights read and write.

Where adapters of a base differ, they differ in few directions of each module. Second-order views
need those directions: the main ones of the base's own activations leave out most of what adapters
write (recipes/LOG.md).
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from lora_gen.adapter.adapter import Adapter, LoraPair
from lora_gen.retrieval.base_frames import BaseFrames, main_directions
from lora_gen.retrieval.features import unfused


def fit_zoo_frames(adapters: Iterable[Adapter], *, sketch: int = 32) -> BaseFrames:
    """The frames of all modules of some adapters of one base, each delta weight of equal size.

    Args:
        adapters: Adapters to learn from; at least one has an effect.
        sketch: Directions in a frame.
    """
    moments: dict[str, Tensor] = {}
    for adapter in adapters:
        for name, pair in unfused(adapter).pairs.items():
            for side, moment_WW in zip(("in", "out"), _moments(pair), strict=True):
                key = f"{name}/{side}"
                moments[key] = moments[key] + moment_WW if key in moments else moment_WW
    return BaseFrames({key: main_directions(moment, sketch) for key, moment in moments.items()})


def _moments(pair: LoraPair) -> tuple[Tensor, Tensor]:
    """dW^T dW and dW dW^T, of trace one; zeros for a module without effect."""
    a_RI, b_OR = (factor.detach().double() for factor in pair.matrices())
    read_II = a_RI.mT @ (b_OR.mT @ b_OR) @ a_RI
    written_OO = b_OR @ (a_RI @ a_RI.mT) @ b_OR.mT
    size = read_II.trace()
    return (read_II, written_OO) if not size > 0 else (read_II / size, written_OO / size)
