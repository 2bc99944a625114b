"""Frames: the few directions through which both sides of a delta weight are looked at.

A frame has one column for each of P directions. Two adapters are comparable where their modules are
seen through the same frames.
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache
from typing import Literal, Protocol

import torch
from torch import Tensor

Side = Literal["in", "out"]


class Frames(Protocol):
    """What `module_features` asks of a set of frames."""

    sketch: int
    """P, directions in a frame."""

    def of(self, module: str, side: Side, width: int) -> tuple[str, Tensor]:
        """A name that equal frames share, and the frame (width, P) float64."""
        ...


class HashedFrames:
    """Gaussian directions seeded by side and width: any shape, no base needed.

    Coordinates are comparable within a base, and between bases only by chance.
    """

    def __init__(self, sketch: int = 32) -> None:
        self.sketch = sketch

    def of(self, module: str, side: Side, width: int) -> tuple[str, Tensor]:
        """See `Frames.of`; every module of one width shares a frame."""
        return f"{side}/{width}", hashed_frame(side, width, self.sketch)


@lru_cache(maxsize=16)
def hashed_frame(side: str, width: int, sketch: int) -> Tensor:
    """Directions (width, sketch) float64, the same in every process."""
    digest = hashlib.blake2b(f"{side}/{width}/{sketch}".encode(), digest_size=7).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "big"))
    frame = torch.randn(width, sketch, generator=generator, dtype=torch.float64)
    return frame / math.sqrt(sketch)
