"""Whether a checkpoint may be resumed by this run, and why not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from lora_gen.errors import CheckpointError
from training.checkpoint import Identity, read_scalars
from training.recipe import Recipe

_FREE = ("output_dir", "threads", "checkpoint.", "tracking.")
"""Keys that may change between two starts: they do not touch the weights."""


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
        f"{name} was {saved.get(name)!r} and is {value!r}"
        for name, value in asdict(identity).items()
        if saved.get(name) != value
    ]
    before = dict(flat(yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))))
    now = dict(flat(recipe.to_dict()))
    free = (*_FREE, "max_steps") if recipe.run.lr_scheduler.schedule == "constant" else _FREE
    differences += [
        f"{key} was {before.get(key)!r} and is {now.get(key)!r}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and not key.startswith(free)
    ]
    if differences:
        raise CheckpointError(
            f"`{folder}` belongs to another run: {'; '.join(differences)}. "
            "Undo the change, name another `output_dir`, or accept it with --force."
        )


def flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of every leaf of nested dicts."""
    for key, value in data.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
