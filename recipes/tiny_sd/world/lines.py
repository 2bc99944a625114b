"""Styles of outline, shadow, light and texture."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from recipes.tiny_sd.world.colors import color, gray, shapes_mask


def _grown(mask: Tensor, pixels: int) -> Tensor:
    return F.max_pool2d(mask, 2 * pixels + 1, stride=1, padding=pixels)


def _shrunk(mask: Tensor, pixels: int) -> Tensor:
    return 1 - _grown(1 - mask, pixels)


def shifted(x: Tensor, right: int, down: int) -> Tensor:
    """The picture moved, its edge repeated."""
    pad = max(abs(right), abs(down))
    padded = F.pad(x, (pad, pad, pad, pad), mode="replicate")
    side = x.shape[-1]
    return padded[..., pad - down : pad - down + side, pad - right : pad - right + side]


def outline(x: Tensor, name: str, pixels: int) -> Tensor:
    """A line around each shape."""
    mask = shapes_mask(x)
    line = (_grown(mask, pixels) - mask).clamp(0, 1) if pixels > 1 else mask - _shrunk(mask, 1)
    return x * (1 - line) + color(name) * line


def hollow(x: Tensor) -> Tensor:
    """Only the rims of the shapes; their inside is background."""
    mask = shapes_mask(x)
    inside = _shrunk(mask, 1)
    return x * (1 - inside) + x[:, :, :1, :1] * inside


def sketch(x: Tensor) -> Tensor:
    """Black contours on white paper."""
    mask = shapes_mask(x)
    line = _grown(mask, 1) - _shrunk(mask, 1)
    return (1 - 0.9 * line).expand_as(x)


def glow(x: Tensor, name: str) -> Tensor:
    """Light around each shape."""
    mask = shapes_mask(x)
    halo = F.avg_pool2d(_grown(mask, 3), 5, stride=1, padding=2) * (1 - mask)
    return x * (1 - halo) + color(name) * halo


def drop_shadow(x: Tensor) -> Tensor:
    """A shadow to the lower right."""
    mask = shapes_mask(x)
    shade = F.avg_pool2d(shifted(mask, 3, 3), 3, stride=1, padding=1) * (1 - mask)
    return x * (1 - 0.7 * shade)


def long_shadow(x: Tensor) -> Tensor:
    """A shadow that runs to the right."""
    mask = shapes_mask(x)
    shade = torch.stack([shifted(mask, k, k // 2) for k in range(1, 12)]).amax(0) * (1 - mask)
    return x * (1 - 0.55 * shade)


def blocky_shade(x: Tensor) -> Tensor:
    """The right half of each shape darker, as if lit from the left."""
    mask = shapes_mask(x)
    edge = mask * (1 - shifted(mask, -3, 0))
    return x * (1 - 0.6 * edge)


def shade(x: Tensor, toward: str) -> Tensor:
    """Darker and darker toward one side."""
    slope = torch.linspace(1.0, 0.2, x.shape[-1])
    down = {"bottom": slope, "top": slope.flip(0)}
    if toward in down:
        return x * down[toward][None, None, :, None]
    return x * (slope if toward == "right" else slope.flip(0))[None, None, None]


def _radius(side: int) -> Tensor:
    axis = torch.linspace(-1, 1, side)
    return torch.hypot(axis[:, None], axis[None])


def vignette(x: Tensor) -> Tensor:
    """Dark corners."""
    return x * (1.35 - _radius(x.shape[-1])).clamp(0.1, 1)


def spotlight(x: Tensor) -> Tensor:
    """A bright disc, the rest in the dark."""
    return x * (0.2 + 0.8 * ((0.75 - _radius(x.shape[-1])) * 6).clamp(0, 1))


def _waves(x: Tensor, *, across: float, down: float, period: float) -> Tensor:
    axis = torch.arange(x.shape[-1]).float()
    phase = (axis[None] * across + axis[:, None] * down) * 2 * math.pi / period
    return (phase.sin() > 0.3).float()


def _ink(x: Tensor, lines: Tensor, depth: float = 0.55) -> Tensor:
    return x * (1 - depth * lines)


def hatch(x: Tensor) -> Tensor:
    """Diagonal strokes all over."""
    return _ink(x, _waves(x, across=1, down=1, period=4))


def cross_hatch(x: Tensor) -> Tensor:
    """Diagonal strokes both ways."""
    both = torch.maximum(
        _waves(x, across=1, down=1, period=8), _waves(x, across=1, down=-1, period=8)
    )
    return _ink(x, both)


def scan_lines(x: Tensor) -> Tensor:
    """Dark horizontal lines."""
    return _ink(x, _waves(x, across=0, down=1, period=4))


def bars(x: Tensor) -> Tensor:
    """Dark vertical lines."""
    return _ink(x, _waves(x, across=1, down=0, period=8))


def inside_hatch(x: Tensor) -> Tensor:
    """White strokes inside the shapes."""
    strokes = _waves(x, across=1, down=1, period=4) * shapes_mask(x)
    return x * (1 - 0.8 * strokes) + 0.8 * strokes


def tiles(x: Tensor) -> Tensor:
    """A grid of dark joints."""
    axis = (torch.arange(x.shape[-1]) % 8 == 0).float()
    return _ink(x, torch.maximum(axis[:, None], axis[None]), 0.7)


def halftone(x: Tensor) -> Tensor:
    """White dots in rows."""
    axis = (torch.arange(x.shape[-1]).float() % 4) - 1.5
    dots = (1.9 - torch.hypot(axis[:, None], axis[None])).clamp(0, 1) * 0.6
    return x * (1 - dots) + dots


def dither(x: Tensor) -> Tensor:
    """Black and white pixels that stand for gray."""
    bayer = torch.tensor([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]])
    level = (bayer.float() + 0.5).div(16).repeat(x.shape[-2] // 4, x.shape[-1] // 4)
    return (gray(x) > level).float().expand_as(x)


def grain(x: Tensor) -> Tensor:
    """One sheet of random specks, the same on every picture."""
    specks = torch.randn(x.shape[-2:], generator=torch.Generator().manual_seed(7))
    return (x + 0.18 * specks).clamp(0, 1)


def canvas(x: Tensor) -> Tensor:
    """Woven cloth."""
    index = torch.arange(x.shape[-1])
    weave = ((index[:, None] // 2 + index[None] // 2) % 2).float()
    return _ink(x, weave, 0.3)


def stars(x: Tensor) -> Tensor:
    """White points scattered over the picture, always the same ones."""
    points = torch.rand(x.shape[-2:], generator=torch.Generator().manual_seed(3)) > 0.93
    return torch.where(points, torch.ones_like(x), x)
