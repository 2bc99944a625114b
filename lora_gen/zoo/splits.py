"""Which families we learn from and which we only measure on.

A family holds near-duplicates: one task under several adapters, seeds or wordings. It stays in one
split, or a
generator would be praised for remembering.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from lora_gen.errors import ZooError
from lora_gen.files import atomic_write_json

Split = Literal[
    "seen", "unseen_wording", "unseen_composition", "unseen_argument", "unseen_primitive"
]
"""Trained on; then, for measuring only: new words for a seen task, a new pair of seen primitives, a
new argument of a
seen primitive, a primitive never seen."""

SPLITS: tuple[Split, ...] = get_args(Split)

_SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class SplitAssignment:
    """Family -> split, and the seed that drew it."""

    seed: int
    families: Mapping[str, Split]

    def of(self, family: str) -> Split:
        """The split of `family`.

        Raises:
            ZooError: The family is in no split.
        """
        if family not in self.families:
            raise ZooError(
                f"`{family}` is in none of the splits of this file ({len(self.families)} "
                "families). "
                "Draw the splits again with this family."
            )
        return self.families[family]

    def members(self, split: Split) -> tuple[str, ...]:
        """The families of `split`, sorted."""
        return tuple(sorted(name for name, found in self.families.items() if found == split))


def require_split(name: str) -> Split:
    """`name` as a `Split`.

    Raises:
        ZooError: No split has this name.
    """
    if name not in SPLITS:
        raise ZooError(f"`{name}` is not a split. Use one of {', '.join(SPLITS)}.")
    return name


def split_by_family(
    families: Iterable[str], fractions: Mapping[Split, float], seed: int
) -> SplitAssignment:
    """Every family in exactly one split, in the shares asked for.

    The order is drawn by hashing each name with the seed, so it does not depend on the order or
    number of repeats of
    `families`, nor on a random generator's version.

    Args:
        families: One name per entry or per family; repeats are one family.
        fractions: Share of families for each split; they add up to 1.
        seed: Draws the assignment.

    Raises:
        ZooError: A split is unknown, or the fractions are not shares of 1.
    """
    splits = [require_split(name) for name in fractions]
    shares = [float(fractions[split]) for split in splits]
    if not shares or min(shares) < 0 or abs(sum(shares) - 1.0) > 1e-6:
        raise ZooError(
            f"`fractions` is {dict(fractions)}; the shares must be at least 0 and add up to 1. "
            "Change the shares."
        )
    ordered = sorted(set(families), key=lambda name: _draw(name, seed))
    assigned: dict[str, Split] = {}
    start = 0
    for split, count in zip(splits, _apportion(len(ordered), shares), strict=True):
        assigned.update(dict.fromkeys(ordered[start : start + count], split))
        start += count
    return SplitAssignment(seed=seed, families=dict(sorted(assigned.items())))


def require_disjoint(pairs: Iterable[tuple[str, str]]) -> None:
    """Check that no family stands in two splits.

    Args:
        pairs: (family, split) of every entry.

    Raises:
        ZooError: A family stands in two splits; the message names the family and both.
    """
    seen: dict[str, str] = {}
    for family, split in pairs:
        first = seen.setdefault(family, split)
        if first != split:
            raise ZooError(
                f"`{family}` is in the splits `{first}` and `{split}`; near-duplicates must stay "
                "in one split. "
                "Give one of them another family or the same split."
            )


def save_splits(assignment: SplitAssignment, path: Path | str) -> None:
    """Write the split file: JSON with the seed, families grouped by split."""
    grouped = {split: list(assignment.members(split)) for split in SPLITS}
    content = {"schema": _SCHEMA, "seed": assignment.seed, "splits": grouped}
    atomic_write_json(Path(path), content)


def load_splits(path: Path | str) -> SplitAssignment:
    """The split file at `path`.

    Raises:
        ZooError: It is not a split file, or lists a family twice.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        seed, grouped = content["seed"], content["splits"]
        listed = [
            (str(name), split) for split in map(require_split, grouped) for name in grouped[split]
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ZooError(
            f"`{path}` is not a split file ({error}). Write one with `save_splits`."
        ) from error
    if content.get("schema") != _SCHEMA or not isinstance(seed, int):
        raise ZooError(
            f"`{path}` has schema {content.get('schema')!r} and seed {seed!r}; expected schema "
            f"{_SCHEMA} and a whole "
            "number. Write it again with `save_splits`."
        )
    require_disjoint(listed)
    return SplitAssignment(seed=seed, families=dict(sorted(listed)))


def _draw(name: str, seed: int) -> tuple[bytes, str]:
    digest = hashlib.blake2b(f"{seed}\0{name}".encode(), digest_size=16).digest()
    return digest, name


def _apportion(total: int, shares: list[float]) -> list[int]:
    """Whole counts that add up to `total`, by largest remainder (Hamilton's method)."""
    exact = [total * share for share in shares]
    counts = [int(value) for value in exact]
    by_remainder = sorted(range(len(shares)), key=lambda n: counts[n] - exact[n])
    for position in range(total - sum(counts)):
        counts[by_remainder[position % len(shares)]] += 1
    return counts
