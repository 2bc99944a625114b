"""What a checkpoint says, read as if a stranger had written it: bounded, typed, nothing is run.

A manifest finds damage, not malice: whoever can write the folder can make the manifest again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from lora_gen.errors import CheckpointError, LoraGenError
from lora_gen.limits import DEFAULT_LIMITS
from lora_gen.safetensors_header import read_safetensors_header
from lora_gen.strict_json import open_regular, read_json
from training.metrics import Meter
from training.random_state import restore_random_state

_LIMITS = replace(
    DEFAULT_LIMITS,
    file_bytes=2**50,
    header_bytes=100_000_000,
    tensors=1_000_000,
    dimensions=8,
    json_bytes=2**28,
)
"""A model may be far larger than an adapter, and each process adds its random state."""

_RECIPE_BYTES = 200_000
_NESTING, _MOST_NESTED = (b"[", b"{", b"- ", b"? "), 1_000
"""Signs that open a level, and how many there may be: YAML's scanner is square in open levels."""


def read_scalars(folder: Path) -> dict[str, Any]:
    """Counters, identity and random state of a verified checkpoint.

    Raises:
        CheckpointError: A part is missing or of another type, so that it cannot be resumed at all.
    """
    path = folder / "state.json"
    scalars = read_json(path, limits=_LIMITS, error=CheckpointError)
    for name, kind in (("step", int), ("batches_seen", int), ("identity", dict)):
        _require(isinstance(scalars.get(name), kind), path, name)
        _require(kind is dict or (scalars[name] is not True and scalars[name] >= 0), path, name)
    processes = scalars.get("processes")
    _require(isinstance(processes, list), path, "processes")
    _require(all(isinstance(own, dict) for own in scalars["processes"]), path, "processes")
    return scalars


def read_groups(folder: Path, stems: tuple[str, ...]) -> dict[str, dict[str, Tensor]]:
    """File stem -> its tensors, headers judged first.

    Raises:
        CheckpointError: A file is no safetensors file.
    """
    groups = {}
    for stem in stems:
        path = folder / f"{stem}.safetensors"
        try:
            read_safetensors_header(path, _LIMITS)
            groups[stem] = load_file(path)
        except (OSError, SafetensorError, LoraGenError) as error:
            raise CheckpointError(
                f"`{path.name}` in `{folder}` cannot be read ({str(error).rstrip('.')}). Remove "
                "the folder; then an older checkpoint is taken."
            ) from error
    return groups


def read_recipe(folder: Path) -> dict[str, Any]:
    """The settings that wrote a checkpoint, as plain data.

    Aliases are refused, since a few lines of them stand for billions of values.

    Raises:
        CheckpointError: It is not the YAML that we write.
    """
    path = folder / "recipe.yaml"
    try:
        with open_regular(path) as file:
            data = file.read(_RECIPE_BYTES + 1)
        if len(data) > _RECIPE_BYTES:
            raise ValueError(f"it has more than {_RECIPE_BYTES:,} bytes")
        if sum(data.count(sign) for sign in _NESTING) > _MOST_NESTED:
            raise ValueError("it is nested like no recipe")
        text = data.decode("utf-8")
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise ValueError("it holds an alias")
        found = yaml.safe_load(text)
        if not isinstance(found, dict):
            raise ValueError("it holds no settings")
    except (OSError, ValueError, RecursionError, yaml.YAMLError, LoraGenError) as error:
        reason = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
        raise CheckpointError(
            f"`{path.name}` in `{folder}` cannot be read ({reason}). Remove the folder; then an "
            "older checkpoint is taken."
        ) from error
    return found


def put_back(own: Mapping[str, Any], meter: Meter) -> None:
    """Restore what a checkpoint keeps of one process: random state and waiting log values.

    Raises:
        CheckpointError: It is not what `random_state` and `Meter.state` return.
    """
    try:
        restore_random_state(own["random"])
        meter.restore({str(name): map(float, values) for name, values in own["meter"].items()})
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError, AttributeError) as error:
        raise CheckpointError(
            f"`state.json` holds no random state that can be restored ({type(error).__name__}). "
            "Remove the checkpoint's folder; then an older one is taken."
        ) from error


def _require(condition: bool, path: Path, name: str) -> None:
    if not condition:
        raise CheckpointError(
            f"`{path}` has no `{name}`, so it cannot be resumed, or one of another type. Remove "
            "the folder; then an older checkpoint is taken."
        )
