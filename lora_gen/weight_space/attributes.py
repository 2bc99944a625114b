"""Which adapters of a zoo have an attribute, by what their descriptions say."""

from __future__ import annotations

import random
from collections.abc import Sequence

from lora_gen.errors import ZooError
from lora_gen.zoo.store import Zoo

MOST = 64
"""Adapters of each side that a direction is learned from."""


def entries_by_phrase(
    zoo: Zoo, phrase: str, *, base: str | None = None, most: int = MOST, seed: int = 0
) -> tuple[list[str], list[str]]:
    """Ids of seen entries that some description of says `phrase`, and of entries where none does.

    Args:
        zoo: Where to look.
        phrase: Words as a description has them, in any case.
        base: Only entries for this base.
        most: Entries of each side, drawn by `seed` where there are more.
        seed: Draws them.

    Raises:
        ZooError: No entry says it, or every one does.
    """
    wanted = phrase.casefold().strip()
    having: list[str] = []
    lacking: list[str] = []
    for entry in zoo.entries(split="seen", base=base):
        side = having if wanted and _says(entry.descriptions, wanted) else lacking
        side.append(entry.id)
    if not having or not lacking:
        raise ZooError(
            f"`{phrase}` is in the descriptions of {len(having)} of {len(having) + len(lacking)} "
            "entries, and a direction needs some with it and some without. Try other words."
        )
    rng = random.Random(seed)
    drawn = [rng.sample(side, min(most, len(side))) for side in (having, lacking)]
    return drawn[0], drawn[1]


def _says(descriptions: Sequence[str], wanted: str) -> bool:
    return any(wanted in text.casefold() for text in descriptions)
