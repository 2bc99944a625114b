"""Styles of place, sharpness and frame."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from recipes.tiny_sd.world.colors import color, gray
from recipes.tiny_sd.world.lines import shifted


def _resampled(x: Tensor, where: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Tensor:
    """Each pixel taken from where the function says, in [-1, 1]; the edge is repeated."""
    axis = (torch.arange(x.shape[-1]) + 0.5) * 2 / x.shape[-1] - 1
    down, across = torch.meshgrid(axis, axis, indexing="ij")
    grid = torch.stack(where(across, down), -1).expand(x.shape[0], -1, -1, -1)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False).clamp(0, 1)


def rotate(x: Tensor, degrees: int) -> Tensor:
    """Turned clockwise."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return _resampled(x, lambda u, v: (c * u + s * v, c * v - s * u))


def zoom(x: Tensor, factor: float) -> Tensor:
    """Larger or smaller about the middle."""
    return _resampled(x, lambda u, v: (u / factor, v / factor))


def stretch(x: Tensor, across: float, down: float) -> Tensor:
    """Wider or taller about the middle."""
    return _resampled(x, lambda u, v: (u / across, v / down))


def slant(x: Tensor) -> Tensor:
    """Leaning to the right."""
    return _resampled(x, lambda u, v: (u + 0.5 * v, v))


def wave(x: Tensor) -> Tensor:
    """As if under water."""
    return _resampled(x, lambda u, v: (u + 0.14 * torch.sin(v * 9), v))


def swirl(x: Tensor) -> Tensor:
    """Twisted about the middle."""

    def twist(u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        angle = 1.8 * (1 - torch.hypot(u, v)).clamp_min(0)
        return u * angle.cos() + v * angle.sin(), v * angle.cos() - u * angle.sin()

    return _resampled(x, twist)


def double(x: Tensor) -> Tensor:
    """Seen twice."""
    return 0.5 * x + 0.5 * shifted(x, 5, 2)


def blur(x: Tensor, pixels: int) -> Tensor:
    """Out of focus."""
    for _ in range(2):
        padded = F.pad(x, (pixels,) * 4, mode="replicate")
        x = F.avg_pool2d(padded, 2 * pixels + 1, stride=1)
    return x


def motion(x: Tensor) -> Tensor:
    """Smeared sideways."""
    return torch.stack([shifted(x, k, 0) for k in range(-4, 5)]).mean(0)


def pixelate(x: Tensor, pixels: int) -> Tensor:
    """Coarse squares."""
    small = F.avg_pool2d(x, pixels)
    return small.repeat_interleave(pixels, -1).repeat_interleave(pixels, -2)


def emboss(x: Tensor) -> Tensor:
    """A gray relief."""
    light = gray(x)
    return (0.5 + shifted(light, 1, 1) - shifted(light, -1, -1)).clamp(0, 1).expand_as(x)


def posterize(x: Tensor) -> Tensor:
    """Three levels a channel."""
    return (x * 2.99).floor() / 2


def frame(x: Tensor, name: str, pixels: int = 3) -> Tensor:
    """A border."""
    inside = torch.zeros(x.shape[-2:])
    inside[pixels:-pixels, pixels:-pixels] = 1
    return x * inside + color(name) * (1 - inside)


def double_frame(x: Tensor) -> Tensor:
    """A black border in a white one."""
    return frame(frame(x, "black", 4), "white", 2)


def letterbox(x: Tensor) -> Tensor:
    """Black bars above and below."""
    bars = torch.ones(x.shape[-2])
    bars[:6] = 0
    bars[-6:] = 0
    return x * bars[None, None, :, None]


def porthole(x: Tensor) -> Tensor:
    """Seen through a round window."""
    axis = torch.linspace(-1, 1, x.shape[-1])
    disc = ((0.97 - torch.hypot(axis[:, None], axis[None])) * 16).clamp(0, 1)
    return x * disc


def soft_corners(x: Tensor) -> Tensor:
    """White corners cut round."""
    axis = (torch.linspace(-1, 1, x.shape[-1]).abs() - 0.45).clamp_min(0) / 0.55
    outside = ((torch.hypot(axis[:, None], axis[None]) - 1) * 9).clamp(0, 1)
    return x * (1 - outside) + outside
