"""Whether a checkpoint may be resumed by this run, and why not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lora_gen.errors import CheckpointError
from training.checkpoint import Identity
from training.reading import read_recipe, read_scalars
from training.recipe import Recipe

_FREE = ("output_dir", "threads", "skip_bad_steps", "checkpoint.", "tracking.")
"""Keys that may change between two starts: they do not touch the weights."""

_MOST_DIFFERENCES, _LONGEST_VALUE = 8, 100
"""A sentence names so many, each value cut to so many characters."""


def require_same_run(folder: Path, recipe: Recipe, identity: Identity) -> None:
    """Refuse to resume a checkpoint of other code, data, processes or settings.

    Args:
        folder: A verified checkpoint.
        recipe: The recipe of this start.
        identity: Code, data and processes of this start.

    Raises:
        CheckpointError: Something differs; the message lists what.
    """
    scalars = read_scalars(folder)
    saved = scalars["identity"]
    differences = [
        f"the random state of process {process} is missing"
        for process, own in enumerate(scalars["processes"])
        if "random" not in own
    ]
    differences += [
        f"{name} was {_shown(saved.get(name))} and is {_shown(value)}"
        for name, value in asdict(identity).items()
        if saved.get(name) != value
    ]
    before = dict(flat(read_recipe(folder)))
    now = dict(flat(recipe.to_dict()))
    free = (*_FREE, "max_steps") if recipe.run.lr_scheduler.schedule == "constant" else _FREE
    differences += [
        f"{str(key)[:80]} was {_shown(before.get(key))} and is {_shown(now.get(key))}"
        for key in sorted(before.keys() | now.keys(), key=str)
        if before.get(key) != now.get(key) and not str(key).startswith(free)
    ]
    if differences:
        more = len(differences) - _MOST_DIFFERENCES
        listed = "; ".join(differences[:_MOST_DIFFERENCES])
        raise CheckpointError(
            f"`{folder}` belongs to another run: {listed}{f'; {more} more' if more > 0 else ''}. "
            "Undo the change, name another `output_dir`, or accept it with --force."
        )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"


def flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of every leaf of nested dicts."""
    for key, value in data.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
