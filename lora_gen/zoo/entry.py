"""What the zoo knows about an adapter: `EntryInfo` as given, `ZooEntry` as recorded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, cast

from lora_gen.errors import ZooError
from lora_gen.zoo.splits import Split, require_split

ORIGIN = "origin"
"""The key under `extra` for where the adapter came from; see `lora_gen.zoo.origin`."""


@dataclass(frozen=True, kw_only=True)
class EntryInfo:
    """What an adapter was trained for and how well it did.

    Raises:
        ZooError: A field has a value the catalog cannot keep.
    """

    task: str
    """Name of the task, unique in meaning: two adapters of one task do the same thing."""

    family: str = ""
    """Near-duplicates that must stay in one split; the task itself where nothing is given."""

    split: Split = "seen"
    """Whether generators may learn from it, or are measured on it."""

    descriptions: tuple[str, ...] = ()
    """Ways to say the task in words."""

    prompts: tuple[str, ...] = ()
    """Unlabeled inputs."""

    examples: tuple[tuple[str, str], ...] = ()
    """Input-output pairs."""

    seed: int | None = None
    """Seed of its training."""

    steps: int | None = None
    """Optimizer steps of its training."""

    accuracy: float | None = None
    """Share of held-out examples that base + adapter answered exactly, 0 to 1, as measured by
    us."""

    extra: Mapping[str, Any] = field(default_factory=dict)
    """Anything else, as a JSON object."""

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        set_field(self, "task", _text("task", self.task))
        if not self.task.strip():
            raise ZooError("`task` is empty; an entry needs the name of its task. Pass `task=`.")
        set_field(self, "family", _text("family", self.family) or self.task)
        set_field(self, "split", require_split(self.split))
        set_field(self, "descriptions", _texts("descriptions", self.descriptions))
        set_field(self, "prompts", _texts("prompts", self.prompts))
        set_field(self, "examples", _pairs(self.examples))
        set_field(self, "seed", _whole("seed", self.seed))
        set_field(self, "steps", _whole("steps", self.steps))
        set_field(self, "accuracy", _share(self.accuracy))
        set_field(self, "extra", _json_object(self.extra))


@dataclass(frozen=True, kw_only=True)
class ZooEntry(EntryInfo):
    """One record of the zoo."""

    id: str
    """Content address of the weights."""

    base: str
    """The base model the adapter modifies."""

    rank: int
    """Largest rank over the modules."""

    created: str
    """When it was added: UTC, ISO 8601."""

    def info(self) -> EntryInfo:
        """The part that whoever added the adapter gave."""
        return EntryInfo(**{part.name: getattr(self, part.name) for part in fields(EntryInfo)})

    def to_dict(self) -> dict[str, Any]:
        """The entry as JSON data, in the order of the fields."""
        plain = {part.name: getattr(self, part.name) for part in fields(self)}
        plain["descriptions"], plain["prompts"] = list(self.descriptions), list(self.prompts)
        plain["examples"] = [list(pair) for pair in self.examples]
        plain["extra"] = dict(self.extra)
        first = ("id", "task", "family", "split", "base", "rank")
        return {name: plain[name] for name in (*first, *(n for n in plain if n not in first))}


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise ZooError(f"`{name}` is {value!r}; it must be text. Pass a string.")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ZooError(
            f"`{name}` holds {value[error.start : error.end]!r}, which is not valid Unicode text. "
            "Remove it."
        ) from error
    return value


def _texts(name: str, values: Iterable[object]) -> tuple[str, ...]:
    if isinstance(values, str):
        raise ZooError(f"`{name}` is one string; it must be a list of strings. Put it in a list.")
    return tuple(_text(name, value) for value in values)


def _pairs(values: Iterable[Iterable[object]]) -> tuple[tuple[str, str], ...]:
    pairs = []
    for value in values:
        pair = _texts("examples", value)
        if len(pair) != 2:
            raise ZooError(
                f"`examples` holds {pair!r}; every example is one input and one output. Pass pairs."
            )
        pairs.append((pair[0], pair[1]))
    return tuple(pairs)


def _whole(name: str, value: int | None) -> int | None:
    if value is None or (type(value) is int and -(2**63) <= value < 2**63):
        return value
    raise ZooError(
        f"`{name}` is {value!r}; it must be a whole number of 64 bits. Leave it out if unknown."
    )


def _share(value: float | None) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ZooError(f"`accuracy` is {value!r}; it must be from 0 to 1. Leave it out if unknown.")
    return float(value)


def _json_object(value: Mapping[str, Any]) -> dict[str, Any]:
    """An own copy, exactly as it will be read back."""
    try:
        copy = json.loads(json.dumps(dict(value), allow_nan=False))
        json.dumps(copy, ensure_ascii=False).encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        raise ZooError(
            f"`extra` is not a JSON object ({error}). Keep text, numbers and lists in it."
        ) from error
    return cast(dict[str, Any], copy)
