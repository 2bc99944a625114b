"""Styles: one primitive or a composition of two, with descriptions and split."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from torch import Tensor

from recipes.tiny_sd.world.primitive import GROUPS, Primitive, primitives
from recipes.tiny_sd.world.scenes import draw, draw_scene

NUM_COMPOSITIONS = 200
NUM_UNSEEN_COMPOSITIONS = 40
HELD_OUT_WORDINGS = 2
HELD_OUT_PRIMITIVES = ("candy", "swirl", "spotlight", "tiles", "porthole", "long_shadow")
HELD_OUT_ARGUMENTS = {
    "rotate": "45",
    "mono": "orange",
    "ground": "red",
    "outline_thick": "green",
    "outline_thin": "yellow",
    "glow": "orange",
    "frame": "green",
}
CONNECTIVES = (
    "{a}, {b}",
    "{a} and {b}",
    "{a} with {b}",
    "{a}; {b}",
    "{a} plus {b}",
    "{a}, together with {b}",
    "both {a} and {b}",
    "{a}, also {b}",
    "{a}, and {b} as well",
    "a style with {a} and {b}",
    # the last two are held out of training
    "{a} combined with {b}",
    "{a}, on top of that {b}",
)


@dataclass(frozen=True)
class Style:
    """One style of the world."""

    name: str
    parts: tuple[Primitive, ...]

    def __call__(self, pictures: Tensor) -> Tensor:
        """Pictures (N, 3, H, W) in [0, 1] as this style draws them."""
        for part in self.parts:
            pictures = part.function(pictures)
        return pictures.clamp(0, 1)

    def describe(self, rng: random.Random, *, held_out: bool = False) -> str:
        """One English description; `held_out` takes the wordings that training never sees."""
        cut = slice(-HELD_OUT_WORDINGS, None) if held_out else slice(-HELD_OUT_WORDINGS)
        phrases = [rng.choice(part.wordings[cut]) for part in self.parts]
        if len(phrases) == 1:
            return phrases[0]
        # A ground's phrase that is a thing may stand behind "on"; the others may not.
        if self.parts[1].family == "ground" and phrases[1].startswith("a ") and rng.random() < 0.4:
            return f"{phrases[0]} on {phrases[1]}"
        if self.parts[0].family == "ground" and phrases[0].startswith("a ") and rng.random() < 0.4:
            return f"{phrases[1]} on {phrases[0]}"
        rng.shuffle(phrases)
        return rng.choice(CONNECTIVES[cut]).format(a=phrases[0], b=phrases[1])

    def descriptions(self, count: int, *, seed: int = 0, held_out: bool = False) -> tuple[str, ...]:
        """Up to `count` different descriptions, always the same ones."""
        rng = random.Random(f"{self.name}/{seed}/{held_out}")
        found = dict.fromkeys(self.describe(rng, held_out=held_out) for _ in range(count * 6))
        return tuple(found)[:count]


@cache
def _pictures() -> Tensor:
    rng = random.Random(0)
    return draw([draw_scene(rng) for _ in range(12)])


def _makes_sense(style: Style) -> bool:
    """Each part changes what the other alone would draw."""
    first, second = style.parts
    both, plain = style(_pictures()), _pictures()
    alone = [part.function(plain).clamp(0, 1) for part in (first, second)]
    return all(float((both - other).abs().mean()) > 0.02 for other in alone)


@cache
def _candidates() -> tuple[Style, ...]:
    """Every pair of parts from different groups, in a fixed random order."""
    found = []
    for a, b in itertools.combinations(primitives(), 2):
        if GROUPS.index(a.group) < GROUPS.index(b.group):
            found.append(Style(f"{a.name}+{b.name}", (a, b)))
    random.Random(1).shuffle(found)
    return tuple(found)


@cache
def all_styles() -> tuple[Style, ...]:
    """Every style with an adapter, primitives first; the same list on every machine."""
    singles = tuple(Style(p.name, (p,)) for p in primitives())
    sensible = (style for style in _candidates() if _makes_sense(style))
    return (*singles, *itertools.islice(sensible, NUM_COMPOSITIONS))


@cache
def practice_styles() -> tuple[Style, ...]:
    """Compositions of seen parts beyond those of `all_styles`: pictures alone, no adapter."""
    last = _candidates().index(all_styles()[-1])
    rest = _candidates()[last + 1 :]
    return tuple(style for style in rest if not _is_held_out(style) and _makes_sense(style))


def _is_held_out(style: Style) -> bool:
    return any(_new_primitive(part) or _new_argument(part) for part in style.parts)


def _new_primitive(part: Primitive) -> bool:
    return part.family in HELD_OUT_PRIMITIVES


def _new_argument(part: Primitive) -> bool:
    return part.argument is not None and HELD_OUT_ARGUMENTS.get(part.family) == part.argument


def make_splits(seed: int = 0) -> dict[str, list[str]]:
    """Style names by split; a composition is held out only if both its parts are seen elsewhere."""
    splits: dict[str, list[str]] = {
        name: [] for name in ("seen", "unseen_composition", "unseen_argument", "unseen_primitive")
    }
    free: list[Style] = []
    for style in all_styles():
        if any(_new_primitive(part) for part in style.parts):
            splits["unseen_primitive"].append(style.name)
        elif any(_new_argument(part) for part in style.parts):
            splits["unseen_argument"].append(style.name)
        else:
            free.append(style)
    uses = Counter(part.name for style in free for part in style.parts)
    pairs = [style for style in free if len(style.parts) == 2]
    random.Random(seed).shuffle(pairs)
    for style in pairs:
        enough = all(uses[part.name] > 3 for part in style.parts)
        if enough and len(splits["unseen_composition"]) < NUM_UNSEEN_COMPOSITIONS:
            splits["unseen_composition"].append(style.name)
            uses.subtract(part.name for part in style.parts)
    held = set(splits["unseen_composition"])
    splits["seen"] = [style.name for style in free if style.name not in held]
    return splits


def styles_by_name(*, practice: bool = False) -> dict[str, Style]:
    """Name -> style."""
    chosen: Sequence[Style] = (*all_styles(), *(practice_styles() if practice else ()))
    return {style.name: style for style in chosen}
