"""Signed distances of unit shapes: negative inside, y grows downward."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


def _circle(u: Tensor, v: Tensor) -> Tensor:
    return torch.hypot(u, v) - 0.95


def _square(u: Tensor, v: Tensor) -> Tensor:
    return torch.maximum(u.abs(), v.abs()) - 0.85


def _triangle(u: Tensor, v: Tensor) -> Tensor:
    side = (1.75 * u.abs() - 0.98 * (v + 1)) / math.hypot(1.75, 0.98)
    return torch.maximum(v - 0.75, side)


def _star(u: Tensor, v: Tensor) -> Tensor:
    wedge = 2 * math.pi / 5
    angle = torch.atan2(u, -v)
    folded = (torch.remainder(angle + wedge / 2, wedge) - wedge / 2).abs()
    x, y = torch.hypot(u, v) * folded.cos(), torch.hypot(u, v) * folded.sin()
    to_x, to_y = 0.42 * math.cos(wedge / 2) - 1.1, 0.42 * math.sin(wedge / 2)
    return (to_y * (x - 1.1) - to_x * y) / math.hypot(to_x, to_y)


def _ring(u: Tensor, v: Tensor) -> Tensor:
    return (torch.hypot(u, v) - 0.72).abs() - 0.27


def _cross(u: Tensor, v: Tensor) -> Tensor:
    flat = torch.maximum(u.abs() - 1, v.abs() - 0.3)
    return torch.minimum(flat, torch.maximum(v.abs() - 1, u.abs() - 0.3))


def _diamond(u: Tensor, v: Tensor) -> Tensor:
    return (1.4 * u.abs() + v.abs() - 1.05) / math.hypot(1.4, 1)


def _moon(u: Tensor, v: Tensor) -> Tensor:
    return torch.maximum(torch.hypot(u, v) - 1, 0.85 - torch.hypot(u - 0.55, v + 0.1))


SHAPES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "ring": _ring,
    "cross": _cross,
    "diamond": _diamond,
    "moon": _moon,
}


def distances(kinds_N: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Signed distance of each point to its picture's shape, (N, H, W).

    Args:
        kinds_N: Index into `SHAPES` for each picture.
        u: Horizontal place in radii, broadcast to (N, H, W).
        v: Vertical place in radii.
    """
    u, v = torch.broadcast_tensors(u, v)
    found = torch.empty_like(u)
    for index, distance in enumerate(SHAPES.values()):
        chosen = kinds_N == index
        if chosen.any():
            found[chosen] = distance(u[chosen], v[chosen])
    return found
