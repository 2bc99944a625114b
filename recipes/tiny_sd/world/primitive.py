"""A primitive style: a function on pictures, with its wordings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from torch import Tensor

from recipes.tiny_sd.world import colors, lines, space

GROUPS = ("space", "color", "ground", "line", "light", "texture", "detail", "frame")
"""In this order they are applied, whatever the order of the words; a style has one of a group."""


@dataclass(frozen=True, kw_only=True)
class Primitive:
    """One thing that a style does."""

    name: str
    family: str
    """Primitives that differ in their argument alone share a family."""
    group: str
    function: Callable[[Tensor], Tensor]
    wordings: tuple[str, ...]
    """The last two are held out of training."""
    argument: str | None = None


@cache
def wordings() -> dict[str, tuple[str, ...]]:
    """Phrases by family.

    Raises:
        ValueError: A family has fewer than ten, or two are equal.
    """
    rows = Path(__file__).with_name("wordings.txt").read_text().splitlines()
    pairs = (row.split(": ", 1) for row in rows if row)
    found = {name: tuple(text.split("|")) for name, text in pairs}
    for name, phrases in found.items():
        if len(set(phrases)) != len(phrases) or len(phrases) < 10:
            raise ValueError(f"`{name}` has {len(set(phrases))} different wordings; write ten.")
    return found


def _plain(group: str, module: Any, names: str) -> list[Primitive]:
    """Functions of a module that take the picture alone."""
    return [
        Primitive(
            name=name,
            family=name,
            group=group,
            function=getattr(module, name),
            wordings=wordings()[name],
        )
        for name in names.split()
    ]


def _each(
    group: str,
    family: str,
    function: Callable[..., Tensor],
    words: dict[str, dict[str, str]],
    **extra: Any,
) -> list[Primitive]:
    """One primitive for each argument: its name -> the words that fill the family's phrases."""
    return [
        Primitive(
            name=f"{family}_{argument}",
            family=family,
            group=group,
            function=partial(_with, function, argument, extra),
            wordings=tuple(phrase.format(**fill) for phrase in wordings()[family]),
            argument=argument,
        )
        for argument, fill in words.items()
    ]


def _with(
    function: Callable[..., Tensor], argument: str, extra: dict[str, Any], x: Tensor
) -> Tensor:
    return function(x, int(argument) if argument.isdigit() else argument, **extra)


def _named(names: str) -> dict[str, dict[str, str]]:
    return {name: {"c": name} for name in names.split()}


def _sized(group: str, sizes: dict[str, Callable[[Tensor], Tensor]]) -> list[Primitive]:
    """Functions with their numbers filled in, each a family of its own."""
    return [
        Primitive(name=name, family=name, group=group, function=function, wordings=wordings()[name])
        for name, function in sizes.items()
    ]


@cache
def primitives() -> tuple[Primitive, ...]:
    """All of them, in the order in which they are applied."""
    quarter, half = "a quarter turn to the right", "by half a turn, upside down"
    turns = {"90": {"by": quarter}, "180": {"by": half}, "45": {"by": "by an eighth of a turn"}}
    sides = {side: {"side": side} for side in ("bottom", "top", "left", "right")}
    return (
        *_each("space", "rotate", space.rotate, turns),
        *_sized(
            "space",
            {
                "shrink": partial(space.zoom, factor=0.55),
                "zoom": partial(space.zoom, factor=1.6),
                "wide": partial(space.stretch, across=1.25, down=0.5),
                "tall": partial(space.stretch, across=0.5, down=1.25),
            },
        ),
        *_plain("space", space, "slant wave swirl double"),
        *_plain("color", colors, "grayscale sepia negative night warm cold pastel neon faded dark"),
        *_plain("color", colors, "overexposed threshold handheld swapped candy"),
        *_plain("color", space, "posterize"),
        *_each("color", "mono", colors.mono, _named("red green blue purple orange")),
        *_each(
            "ground",
            "ground",
            colors.ground,
            _named("night-blue black orange green purple yellow mint red"),
        ),
        *_plain("ground", colors, "sunset checkered striped"),
        *_each(
            "line",
            "outline_thick",
            lines.outline,
            _named("black white red blue yellow green"),
            pixels=2,
        ),
        *_each(
            "line", "outline_thin", lines.outline, _named("black white red blue yellow"), pixels=1
        ),
        *_each("line", "glow", lines.glow, _named("yellow red blue green orange")),
        *_plain("line", lines, "hollow sketch drop_shadow long_shadow blocky_shade"),
        *_each("light", "shade", lines.shade, sides),
        *_plain("light", lines, "vignette spotlight"),
        *_plain("texture", lines, "hatch cross_hatch scan_lines bars inside_hatch tiles halftone"),
        *_plain("texture", lines, "dither grain canvas stars"),
        *_sized(
            "detail",
            {
                "blur_soft": partial(space.blur, pixels=1),
                "blur_strong": partial(space.blur, pixels=3),
                "pixelate_fine": partial(space.pixelate, pixels=2),
                "pixelate_coarse": partial(space.pixelate, pixels=4),
            },
        ),
        *_plain("detail", space, "motion emboss"),
        *_each("frame", "frame", space.frame, _named("black white red gold blue green")),
        *_plain("frame", space, "double_frame letterbox porthole soft_corners"),
    )
