"""Styles of color, and of what lies behind the shapes."""

from __future__ import annotations

import torch
from torch import Tensor

RGB: dict[str, tuple[float, float, float]] = {
    "black": (0.04, 0.04, 0.05),
    "white": (0.98, 0.98, 0.98),
    "red": (0.88, 0.10, 0.12),
    "green": (0.12, 0.60, 0.22),
    "blue": (0.14, 0.30, 0.88),
    "night-blue": (0.05, 0.07, 0.30),
    "orange": (0.97, 0.55, 0.12),
    "purple": (0.48, 0.16, 0.62),
    "yellow": (0.97, 0.88, 0.20),
    "mint": (0.62, 0.93, 0.76),
    "gold": (0.85, 0.65, 0.15),
}


def color(name: str) -> Tensor:
    """A named color as (1, 3, 1, 1)."""
    return torch.tensor(RGB[name])[None, :, None, None]


def gray(x: Tensor) -> Tensor:
    """Brightness, (N, 1, H, W)."""
    return (x * torch.tensor([0.30, 0.59, 0.11])[None, :, None, None]).sum(1, keepdim=True)


def shapes_mask(x: Tensor) -> Tensor:
    """How much each pixel is not background, (N, 1, H, W); the corner is always background."""
    return ((x - x[:, :, :1, :1]).abs().amax(1, keepdim=True) * 3).clamp(0, 1)


def _mix(x: Tensor, other: Tensor, share: float) -> Tensor:
    return x * (1 - share) + other * share


def grayscale(x: Tensor) -> Tensor:
    """No color."""
    return gray(x).expand_as(x)


def sepia(x: Tensor) -> Tensor:
    """An old photograph's brown."""
    return duotone(x, (0.20, 0.10, 0.04), (0.98, 0.88, 0.68))


def duotone(
    x: Tensor, dark: tuple[float, float, float], light: tuple[float, float, float]
) -> Tensor:
    """Brightness between two colors."""
    low, high = (torch.tensor(c)[None, :, None, None] for c in (dark, light))
    return low + gray(x) * (high - low)


def negative(x: Tensor) -> Tensor:
    """Every color's opposite."""
    return 1 - x


def night(x: Tensor) -> Tensor:
    """Dark and blue."""
    return x * torch.tensor([0.22, 0.28, 0.55])[None, :, None, None]


def warm(x: Tensor) -> Tensor:
    """Toward orange."""
    return x * torch.tensor([1.0, 0.80, 0.52])[None, :, None, None]


def cold(x: Tensor) -> Tensor:
    """Toward blue."""
    return x * torch.tensor([0.62, 0.85, 1.0])[None, :, None, None]


def pastel(x: Tensor) -> Tensor:
    """Milky colors."""
    return _mix(x, torch.ones_like(x), 0.6)


def neon(x: Tensor) -> Tensor:
    """Glaring colors on black."""
    mask = shapes_mask(x)
    bright = (gray(x) + (x - gray(x)) * 2.0 + 0.25).clamp(0, 1)
    return bright * mask + 0.03 * (1 - mask)


def faded(x: Tensor) -> Tensor:
    """Little contrast, around gray."""
    return 0.5 + (x - 0.5) * 0.35


def dark(x: Tensor) -> Tensor:
    """Less light."""
    return x * 0.4


def overexposed(x: Tensor) -> Tensor:
    """Too much light."""
    return (x * 1.3 + 0.3).clamp(0, 1)


def threshold(x: Tensor) -> Tensor:
    """Black and white without gray between."""
    return ((gray(x) - 0.6) * 12 + 0.5).clamp(0, 1).expand_as(x)


def handheld(x: Tensor) -> Tensor:
    """Four greens."""
    steps = (gray(x) * 3.99).floor() / 3
    return duotone(steps.expand_as(x), (0.06, 0.22, 0.06), (0.61, 0.74, 0.06))


def swapped(x: Tensor) -> Tensor:
    """Red becomes green, green becomes blue, blue becomes red."""
    return x[:, [2, 0, 1]]


def candy(x: Tensor) -> Tensor:
    """Pink shadows, turquoise light."""
    return duotone(x, (0.85, 0.10, 0.50), (0.70, 0.98, 0.95))


def mono(x: Tensor, name: str) -> Tensor:
    """Shades of one color."""
    tint = torch.tensor(RGB[name])
    return duotone(x, tuple((tint * 0.35).tolist()), tuple((1 - (1 - tint) * 0.25).tolist()))


def ground(x: Tensor, name: str) -> Tensor:
    """Another background."""
    return on_ground(x, color(name).expand_as(x))


def on_ground(x: Tensor, behind: Tensor) -> Tensor:
    """The shapes before another picture."""
    mask = shapes_mask(x)
    return x * mask + behind * (1 - mask)


def sunset(x: Tensor) -> Tensor:
    """A sky from purple down to orange."""
    slope = torch.linspace(0, 1, x.shape[-2])[None, None, :, None]
    sky = color("purple") * (1 - slope) + color("orange") * slope
    return on_ground(x, sky.expand_as(x))


def checkered(x: Tensor) -> Tensor:
    """A chessboard behind."""
    index = torch.arange(x.shape[-1]) // 4
    board = ((index[:, None] + index[None]) % 2).float() * 0.55 + 0.35
    return on_ground(x, board.expand_as(x))


def striped(x: Tensor) -> Tensor:
    """Red and white stripes behind."""
    stripe = ((torch.arange(x.shape[-1]) // 4) % 2).float()[None, None, None]
    return on_ground(x, (color("red") * stripe + color("white") * (1 - stripe)).expand_as(x))
