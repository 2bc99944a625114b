"""How far pictures are from a style: in pixel statistics and in a reader's features.

Shapes: N pictures, S statistics, F features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from recipes.tiny_sd.reader_task import Reader
from recipes.tiny_sd.world.scenes import Scene

_GRID = 4


def pixel_statistics(pictures: Tensor) -> Tensor:
    """Mean and spread of each channel in each cell of a grid, and how much neighbors differ."""
    cell = pictures.shape[-1] // _GRID
    mean = F.avg_pool2d(pictures, cell)
    spread = (F.avg_pool2d(pictures.square(), cell) - mean.square()).clamp_min(0).sqrt()
    across = (pictures[..., 1:] - pictures[..., :-1]).abs().mean((2, 3))
    down = (pictures[..., 1:, :] - pictures[..., :-1, :]).abs().mean((2, 3))
    return torch.cat([mean.flatten(1), spread.flatten(1), across, down], 1)


@dataclass(frozen=True, kw_only=True)
class StyleScale:
    """Typical differences, so that both distances count the same."""

    statistics: float
    features: float

    @classmethod
    def of(cls, plain: Tensor, styled: Sequence[Tensor], reader: Reader) -> StyleScale:
        """The mean distance of plain pictures from the same pictures in many styles.

        Args:
            plain: Pictures without a style.
            styled: The same pictures, once for each style.
            reader: Gives the features.
        """
        found = [_distances(plain, pictures, reader) for pictures in styled]
        statistics, features = (
            torch.stack(parts).mean().item() for parts in zip(*found, strict=True)
        )
        return cls(statistics=statistics, features=features)


def style_errors(drawn: Tensor, wanted: Tensor, reader: Reader, scale: StyleScale) -> Tensor:
    """Error of each picture, (N,): 0 is the style itself, 1 is as far as no style is on average.

    Args:
        drawn: Pictures by base and adapter.
        wanted: The style's own drawing of what the base alone draws, from the same noise.
        reader: Gives the features.
        scale: Typical differences.
    """
    statistics, features = _distances(drawn, wanted, reader)
    return (statistics / scale.statistics + features / scale.features) / 2


@torch.no_grad()
def content_kept(drawn: Tensor, scenes: Sequence[Scene], reader: Reader) -> Tensor:
    """Whether each caption's shapes and number are still read, (N,) float."""
    return reader.reads(drawn, scenes).float()


@torch.no_grad()
def _distances(first: Tensor, second: Tensor, reader: Reader) -> tuple[Tensor, Tensor]:
    """Of pixel statistics and of features, each (N,)."""
    pixels = pixel_statistics(first) - pixel_statistics(second)
    features = reader.features(first) - reader.features(second)
    return pixels.square().mean(1).sqrt(), features.square().mean(1).sqrt()
