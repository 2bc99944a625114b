"""Scenes with captions: up to three plain shapes on a plain background, drawn with soft edges."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recipes.tiny_sd.world.shapes import SHAPES, distances

SIZE = 32
COLORS: dict[str, tuple[float, float, float]] = {
    "red": (0.86, 0.12, 0.14),
    "green": (0.13, 0.62, 0.24),
    "blue": (0.13, 0.28, 0.84),
    "yellow": (0.96, 0.83, 0.12),
    "orange": (0.96, 0.52, 0.09),
    "purple": (0.52, 0.18, 0.66),
    "cyan": (0.12, 0.74, 0.80),
    "black": (0.08, 0.08, 0.10),
}
BACKGROUNDS: dict[str, tuple[float, float, float]] = {
    "white": (0.97, 0.97, 0.97),
    "gray": (0.66, 0.66, 0.68),
    "pink": (0.97, 0.75, 0.80),
    "cream": (0.95, 0.90, 0.72),
}
PLACES: dict[str, tuple[float, float]] = {
    "on the left": (0.30, 0.5),
    "on the right": (0.70, 0.5),
    "at the top": (0.5, 0.30),
    "at the bottom": (0.5, 0.70),
    "in the center": (0.5, 0.5),
}
NUMBERS = {2: "two", 3: "three"}


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One shape; place and radius in units of the picture's side."""

    shape: str
    color: str
    x: float
    y: float
    radius: float


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What is in a picture, and its caption."""

    things: tuple[Thing, ...]
    background: str
    caption: str


def draw_scene(rng: random.Random) -> Scene:
    """A random scene; a caption that does not name the background means white."""
    background = rng.choice(("white", "white", "white", *BACKGROUNDS))
    make = rng.choice((_single, _single, _several, _several, _pair))
    things, caption = make(rng)
    if background != "white" or rng.random() < 0.3:
        caption = f"{caption} on a {background} background"
    return Scene(things=things, background=background, caption=caption)


def _single(rng: random.Random) -> tuple[tuple[Thing, ...], str]:
    shape, color = rng.choice(tuple(SHAPES)), rng.choice(tuple(COLORS))
    place = rng.choice((*PLACES, "in the center"))
    said = "" if place == "in the center" and rng.random() < 0.6 else f" {place}"
    x, y = PLACES[place]
    thing = _thing(rng, shape, color, (x, y), 0.25)
    return (thing,), f"{_article(color)} {color} {shape}{said}"


def _several(rng: random.Random) -> tuple[tuple[Thing, ...], str]:
    shape, color, count = rng.choice(tuple(SHAPES)), rng.choice(tuple(COLORS)), rng.choice((2, 3))
    if count == 2:
        places = rng.choice((((0.27, 0.5), (0.73, 0.5)), ((0.3, 0.3), (0.7, 0.7))))
    else:
        places = rng.choice(
            (((0.25, 0.3), (0.75, 0.3), (0.5, 0.72)), ((0.5, 0.28), (0.25, 0.7), (0.75, 0.7)))
        )
    radius = 0.19 if count == 2 else 0.17
    things = tuple(_thing(rng, shape, color, place, radius) for place in places)
    plural = f"{shape}es" if shape == "cross" else f"{shape}s"
    return things, f"{NUMBERS[count]} {color} {plural}"


def _pair(rng: random.Random) -> tuple[tuple[Thing, ...], str]:
    shapes = rng.sample(tuple(SHAPES), 2)
    colors = [rng.choice(tuple(COLORS)) for _ in shapes]
    beside = rng.random() < 0.5
    places = ((0.27, 0.5), (0.73, 0.5)) if beside else ((0.5, 0.27), (0.5, 0.73))
    things = tuple(
        _thing(rng, s, c, place, 0.19) for s, c, place in zip(shapes, colors, places, strict=True)
    )
    first, second = (f"{_article(c)} {c} {s}" for s, c in zip(shapes, colors, strict=True))
    return things, f"{first} {'and' if beside else 'above'} {second}"


def _thing(
    rng: random.Random, shape: str, color: str, place: tuple[float, float], radius: float
) -> Thing:
    def jitter() -> float:
        return rng.uniform(-0.03, 0.03)

    return Thing(
        shape=shape,
        color=color,
        x=place[0] + jitter(),
        y=place[1] + jitter(),
        radius=radius * rng.uniform(0.9, 1.1),
    )


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def draw(scenes: Sequence[Scene], size: int = SIZE) -> Tensor:
    """Pictures (N, 3, size, size) in [0, 1]."""
    image = torch.tensor([BACKGROUNDS[scene.background] for scene in scenes])[:, :, None, None]
    image = image.expand(-1, -1, size, size).clone()
    axis = (torch.arange(size) + 0.5) / size
    for place in range(3):
        rows = [i for i, scene in enumerate(scenes) if len(scene.things) > place]
        if not rows:
            continue
        things = [scenes[i].things[place] for i in rows]
        radius = torch.tensor([t.radius for t in things])[:, None, None]
        u = (axis[None, None, :] - torch.tensor([t.x for t in things])[:, None, None]) / radius
        v = (axis[None, :, None] - torch.tensor([t.y for t in things])[:, None, None]) / radius
        kinds = torch.tensor([tuple(SHAPES).index(t.shape) for t in things])
        cover = (0.5 - distances(kinds, u, v) * radius * size).clamp(0, 1)[:, None]
        color = torch.tensor([COLORS[t.color] for t in things])[:, :, None, None]
        image[rows] = image[rows] * (1 - cover) + color * cover
    return image
