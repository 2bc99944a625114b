"""The text tables: criteria, how people name them, and the words or phrases that realize them.

A table describes one family, that is, criteria that share words and so stand in one split:

    family: animal
    slot: noun                                  where its words stand; see `sentences`
    frames: next to the {} | because of the {} || not far from the {}
    criterion class: mammal, bird, fish
      say: the class of the animal | what creature it is || the zoological group
    words:
    dog: mammal
    criterion mood ...                          or, in a phrase family, one criterion each:
      cheerful: happily | with a [smile/grin] || in high spirits

Behind `||` stands what is held out for measuring; of words, `held_out_words` draws it. `[a/b]` is
a or b, and `-` in the place of a value says that the word has none.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "tables"
HELD_OUT_SHARE = 0.3
_CHOICE = re.compile(r"\[([^\]]*)\]")

Pool = tuple[tuple[str, ...], tuple[str, ...]]
"""(for training, held out)."""


@dataclass(frozen=True)
class Criterion:
    """One way to tell sentences apart."""

    family: str
    name: str
    values: tuple[str, ...]
    sayings: Pool
    """Noun phrases that name it."""

    phrases: Mapping[str, Pool] = field(default_factory=dict)
    """Value -> phrases; empty where words carry it."""

    @property
    def key(self) -> str:
        """Unique name, such as `animal.class`."""
        return f"{self.family}.{self.name}"


@dataclass(frozen=True)
class Word:
    """A word of a lexicon and its value for each of the family's criteria."""

    text: str
    values: Mapping[str, str]


@dataclass(frozen=True)
class Family:
    """Criteria that share their words, or their theme."""

    name: str
    slot: str
    criteria: tuple[Criterion, ...]
    frames: Pool = ((), ())
    words: tuple[tuple[Word, ...], tuple[Word, ...]] = ((), ())


def choose(text: str, rng: random.Random) -> str:
    """`text` with every `[a/b]` replaced by one of its choices."""
    return _CHOICE.sub(lambda found: rng.choice(found[1].split("/")), text)


@cache
def families() -> dict[str, Family]:
    """Every family by name, in the order of the files."""
    found: dict[str, Family] = {}
    for path in sorted(FOLDER.glob("*.txt")):
        blocks = re.split(r"^family:", path.read_text("utf-8"), flags=re.MULTILINE)[1:]
        for block in blocks:
            family = _family(block.splitlines(), path.name)
            if family.name in found:
                raise ValueError(f"`{family.name}` is a family twice; see `{path.name}`.")
            found[family.name] = family
    return found


@cache
def criteria() -> dict[str, Criterion]:
    """Every criterion by its key."""
    return {one.key: one for family in families().values() for one in family.criteria}


def held_out_words(words: list[Word], seed: str) -> set[str]:
    """Words that only measuring may use: of every value one or two, and never all but one.

    Raises:
        ValueError: A value has too few words.
    """
    order = sorted(words, key=lambda word: word.text)
    random.Random(seed).shuffle(order)
    pairs = [{(name, value) for name, value in word.values.items()} for word in order]
    left: dict[tuple[str, str], int] = {}
    for own in pairs:
        for pair in own:
            left[pair] = left.get(pair, 0) + 1
    chosen, covered = set[str](), dict.fromkeys(left, 0)
    for is_needed in (True, False):
        for word, own in zip(order, pairs, strict=True):
            helps = any(covered[pair] < 2 for pair in own)
            is_wanted = helps if is_needed else len(chosen) < HELD_OUT_SHARE * len(order)
            if word.text not in chosen and is_wanted and all(left[pair] > 2 for pair in own):
                chosen.add(word.text)
                for pair in own:
                    left[pair] -= 1
                    covered[pair] += 1
    if missing := sorted(pair for pair, count in covered.items() if not count):
        raise ValueError(f"{missing[0]} has no word that can be held out in `{seed}`. Add some.")
    return chosen


def _family(lines: list[str], path: str) -> Family:
    name, slot, frames = lines[0].strip(), "", ((), ())
    criteria, words = list[Criterion](), list[Word]()
    rest = _numbered(lines[1:])
    for number, line in rest:
        key, _, content = (part.strip() for part in line.partition(":"))
        where = f"`{path}`, `{name}`, line {number}"
        if key == "slot":
            slot = content
        elif key == "frames":
            frames = _pool(content)
        elif key.startswith("criterion "):
            criteria.append(Criterion(name, key.split()[1], _list(content), ((), ())))
        elif key == "say" and criteria:
            criteria[-1] = _replaced(criteria[-1], sayings=_pool(content))
        elif key == "words":
            words = [_word(text, criteria, where) for _, text in rest]
        elif criteria:
            known = criteria[-1]
            values = (*known.values, key)
            phrases = {**known.phrases, key: _pool(content)}
            criteria[-1] = _replaced(known, values=values, phrases=phrases)
        else:
            raise ValueError(f"{where} is not part of a criterion: {line!r}.")
    held = held_out_words(words, name) if words else set()
    split = (
        tuple(word for word in words if word.text not in held),
        tuple(word for word in words if word.text in held),
    )
    return Family(name, slot, tuple(criteria), frames, split)


def _numbered(lines: list[str]) -> Iterator[tuple[int, str]]:
    return (
        (number, line.strip())
        for number, line in enumerate(lines, start=2)
        if line.strip() and not line.startswith("#")
    )


def _replaced(criterion: Criterion, **changes: object) -> Criterion:
    return Criterion(**{**criterion.__dict__, **changes})  # type: ignore[arg-type]


def _word(line: str, criteria: list[Criterion], where: str) -> Word:
    text, _, values = line.partition(":")
    found = values.split()
    if len(found) != len(criteria):
        raise ValueError(f"{where}: `{line}` has {len(found)} values, not {len(criteria)}.")
    kept = {}
    for criterion, value in zip(criteria, found, strict=True):
        if value not in (*criterion.values, "-"):
            raise ValueError(f"{where}: `{value}` of `{text}` is no {criterion.key}.")
        if value != "-":
            kept[criterion.name] = value
    return Word(text.strip(), kept)


def _pool(text: str) -> Pool:
    train, _, held = text.partition("||")
    return _parts(train), _parts(held)


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split("|") if part.strip())


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
