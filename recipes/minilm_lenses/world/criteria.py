"""Which criteria are learned from and which only measured, and what they are called in words."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache

from lora_gen.zoo.splits import Split
from recipes.minilm_lenses.world.tables import Criterion, criteria

UNSEEN_FAMILIES = {
    *("address", "attitude", "calendar", "event", "feeling", "food", "kind", "profession"),
    *("reason", "urgency", "vehicle"),
    *("grammar.negation", "grammar.aspect"),  # parts of the grammar are families of their own
}
"""No criterion of these is trained on in any way."""

WATCHED = {"calendar", "kind", "vehicle", "grammar.aspect"}
"""Unseen families that may be looked at while the generator is made; the others only at its end."""

UNSEEN_ATTRIBUTES = {
    *("animal.diet", "artwork.tone", "city.rank", "clothing.weather", "furniture.use"),
    *("illness.spread", "nature.element", "plant.climate", "sport.gear", "tool.action"),
}
"""Criteria on the words of families whose other criteria are trained on."""

TEMPLATES = (
    "{}",
    "by {}",
    "group sentences by {}",
    "sort the messages by {}",
    "cluster these texts by {}",
    "compare sentences only by {}",
    "two sentences are alike when they agree in {}",
    "I want to search by {}, whatever the topic",
    "similarity should depend on nothing but this: {}",
    "arrange my notes according to {}",
    "{} ({values})",
    "tell {values} apart: {}",
)
HELD_OUT_TEMPLATES = (
    "put what I wrote into piles: {}",
    "ignore everything except {}",
    "what matters to me is {}",
    "a map of my mails on which neighbors share {}",
)

NAMED_TEMPLATES = (
    "{} ({values})",
    "{}: {values}",
    "by {}, that is {values}",
    "tell {values} apart: {}",
    "{values}, as to {}",
    "{values}",
)
"""Of a request that names the values too."""


def family_of(criterion: Criterion) -> str:
    """What must stay in one split: the family, or the criterion itself within the grammar."""
    return criterion.key if criterion.family == "grammar" else criterion.family


def split_of(criterion: Criterion) -> Split:
    """`seen`, `unseen_argument` (a new criterion on known words), `unseen_primitive` (all new)."""
    if family_of(criterion) in UNSEEN_FAMILIES:
        return "unseen_primitive"
    return "unseen_argument" if criterion.key in UNSEEN_ATTRIBUTES else "seen"


@cache
def make_splits() -> dict[Split, tuple[str, ...]]:
    """Split -> keys of its criteria."""
    splits: dict[Split, list[str]] = {}
    for key, criterion in criteria().items():
        splits.setdefault(split_of(criterion), []).append(key)
    return {split: tuple(sorted(keys)) for split, keys in splits.items()}


def descriptions(key: str, count: int, *, is_held_out: bool = False) -> tuple[str, ...]:
    """Ways to ask for the lens of a criterion, always the same ones.

    Args:
        key: The criterion's key.
        count: At most so many.
        is_held_out: Templates and noun phrases that training never meets.
    """
    criterion = criteria()[key]
    sayings = criterion.sayings[int(is_held_out)]
    templates = HELD_OUT_TEMPLATES if is_held_out else TEMPLATES
    found = [t.format(s, values=listed(criterion.values)) for t in templates for s in sayings]
    random.Random(f"{key}/{is_held_out}").shuffle(found)
    plain = [sayings[0], *(text for text in found if text != sayings[0])]
    return tuple(plain[:count])


def naming(key: str, values: Sequence[str], count: int) -> tuple[str, ...]:
    """Requests for a criterion that name values, the first with the values in their order.

    Args:
        key: The criterion's key.
        values: What is named: values, or several joined.
        count: At most so many; templates, sayings and the order of the values are drawn.
    """
    sayings, rng = criteria()[key].sayings[0], random.Random(f"naming/{key}/{values}")
    found = [NAMED_TEMPLATES[0].format(sayings[0], values=listed(values))]
    for _ in range(count - 1):
        order = listed(rng.sample(list(values), len(values)))
        found.append(rng.choice(NAMED_TEMPLATES).format(rng.choice(sayings), values=order))
    return tuple(dict.fromkeys(found))


def listed(values: Sequence[str]) -> str:
    """Values as people list them: `a, b or c`."""
    return ", ".join(values[:-1]) + f" or {values[-1]}"
