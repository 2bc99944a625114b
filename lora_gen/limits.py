"""The one table of limits on what is read from outside.

An operator widens or narrows them with a JSON file, `{"file_bytes": 4000000000}`, named by the
environment variable `LORA_GEN_LIMITS`; it is read once, when this module is first imported.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from lora_gen.errors import ConfigError

VARIABLE = "LORA_GEN_LIMITS"
_FILE_BYTES = 100_000


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds on files from outside. The defaults fit any LoRA in use."""

    file_bytes: int = 1_000_000_000
    """Largest weight file."""

    header_bytes: int = 8_000_000
    """Largest safetensors header; those of LoRAs are well under 1 MB."""

    tensors: int = 20_000
    """Most tensors in one file."""

    name_bytes: int = 512
    """Longest tensor name."""

    dimensions: int = 4
    """Most dimensions of a tensor; a Conv2d factor has four."""

    elements: int = 2**40
    """Largest size of one dimension, and largest product of all."""

    rank: int = 512
    """Largest LoRA rank."""

    alpha: float = 65_536.0
    """Largest `lora_alpha`."""

    delta_norm: float = 1e8
    """Largest Frobenius norm of one module's delta weight."""

    json_bytes: int = 1_000_000
    """Largest JSON file or model card."""

    nesting: int = 32
    """Deepest nesting of JSON."""

    archive_bytes: int = 2_000_000_000
    """Largest zip file, and most bytes that one unpacks to."""

    archive_members: int = 64
    """Most members of a zip file."""

    archive_ratio: int = 50
    """Most bytes that one packed byte may unpack to."""


def limits_from(values: Mapping[str, object]) -> Limits:
    """The default limits with some replaced.

    Args:
        values: Field of `Limits` -> number above 0.

    Raises:
        ConfigError: A name is no limit, or a value is not a number above 0 of the field's type.
    """
    known = {field.name: field.type for field in fields(Limits)}
    checked: dict[str, float] = {}
    for name, value in values.items():
        if name not in known:
            raise ConfigError(f"`{name[:80]}` is no limit. Limits are {', '.join(known)}.")
        wanted = (int, float) if known[name] == "float" else (int,)
        is_number = isinstance(value, wanted) and not isinstance(value, bool)
        if not is_number or not 0 < value < float("inf"):  # type: ignore[operator]
            raise ConfigError(
                f"The limit `{name}` is `{str(value)[:80]}`, and must be a "
                f"{'number' if float in wanted else 'whole number'} above 0."
            )
        checked[name] = value  # type: ignore[assignment]
    return Limits(**checked)  # type: ignore[arg-type]


def read_limits(path: Path) -> Limits:
    """The limits in an operator's JSON file; what it leaves out keeps its default.

    Raises:
        ConfigError: The file cannot be read, is no JSON object, or holds a wrong limit.
    """
    try:
        with path.open("rb") as file:
            values = json.loads(file.read(_FILE_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"`{path}` cannot be read as JSON ({error}). Correct it, or unset `{VARIABLE}`."
        ) from error
    if not isinstance(values, dict):
        raise ConfigError(f"`{path}` must hold a JSON object of limits and their values.")
    return limits_from(values)


def _configured() -> Limits:
    path = os.environ.get(VARIABLE)
    return read_limits(Path(path)) if path else Limits()


DEFAULT_LIMITS = _configured()
"""What every reader uses unless it is told otherwise."""
