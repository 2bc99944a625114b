"""A primitive: a function on lines of one kind, with its wordings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Primitive:
    """One step that a task can take."""

    name: str
    function: Callable[[str], str]
    wordings: tuple[str, ...]
    """Imperative phrases in which `{x}` stands for the text; the last two are held out of training."""
    kind: str = "text"
    """Kind of input it reads; `text` reads all."""
    family: str = ""
    """Primitives that differ in their argument alone share a family."""
    argument: str | int | None = None


@cache
def _paraphrases() -> dict[str, tuple[str, ...]]:
    """Further wordings by primitive, written without sight of the held-out ones."""
    lines = Path(__file__).with_name("paraphrases.txt").read_text().splitlines()
    pairs = (line.split(": ", 1) for line in lines if line)
    return {name: tuple(text.split("|")) for name, text in pairs}


def primitive(
    name: str,
    function: Callable[[str], str],
    wordings: str,
    *,
    kind: str = "text",
    family: str = "",
    argument: str | int | None = None,
) -> Primitive:
    """A primitive whose wordings are written with `|` between them.

    Raises:
        ValueError: There are fewer than eight wordings, or two are equal.
    """
    phrases = tuple(phrase.strip() for phrase in wordings.split("|"))
    more = tuple(text for text in _paraphrases().get(name, ()) if text not in phrases)
    phrases = (*phrases[:-2], *more, *phrases[-2:])
    if len(set(phrases)) < 8 or len(set(phrases)) != len(phrases):
        raise ValueError(
            f"`{name}` has {len(set(phrases))} different wordings; at least 8, all different, are needed."
        )
    return Primitive(
        name=name,
        function=function,
        wordings=phrases,
        kind=kind,
        family=family or name,
        argument=argument,
    )
