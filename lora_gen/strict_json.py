"""JSON from outside, parsed as data only, and names from outside made fit to show."""

from __future__ import annotations

import json
import math
import os
import stat
from io import BufferedReader
from pathlib import Path
from typing import Any, NoReturn

from lora_gen.errors import AdapterConfigError, LoraGenError, UnsafeFileError
from lora_gen.limits import DEFAULT_LIMITS, Limits

__all__ = ["DEFAULT_LIMITS", "Limits", "open_regular", "parse_json", "printable", "read_json"]


class _RefusedJsonError(ValueError):
    """The text is JSON to Python, but not to us."""


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _RefusedJsonError(f"the key {printable(key)} is listed twice")
        found[key] = value
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise _RefusedJsonError(f"it holds {name}, and every number must be finite")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _RefusedJsonError(f"it holds {text[:20]}, and every number must be finite")
    return number


def _depth_exceeds(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        level = [
            child
            for item in level
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True


def printable(text: str, limit: int = 80) -> str:
    """A name from outside in back-quotes, escaped to ASCII and cut to `limit` characters."""
    escaped = text.encode("unicode_escape", "backslashreplace").decode("ascii")
    return f"`{escaped if len(escaped) <= limit else escaped[: limit - 1] + '…'}`"


def parse_json(
    data: bytes,
    *,
    subject: str,
    limits: Limits = DEFAULT_LIMITS,
    error: type[LoraGenError] = AdapterConfigError,
) -> Any:
    """The value of `data`, parsed as data only.

    Args:
        data: UTF-8 text without a byte-order mark.
        subject: What the error sentence names, with its back-quotes.
        limits: Bounds on nesting; the size is the caller's to check.
        error: Error class to raise.

    Raises:
        LoraGenError: (as `error`) Not UTF-8, not JSON, a duplicate key, a number that is not
            finite, or nested too deep.
    """
    if data.startswith(b"\xef\xbb\xbf"):
        raise error(f"{subject} begins with a byte-order mark. Save it as plain UTF-8.")
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique_keys,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
    except _RefusedJsonError as cause:
        raise error(f"{subject} is refused: {cause}. Write it again with standard JSON.") from cause
    except RecursionError as cause:
        raise error(
            f"{subject} is nested deeper than {limits.nesting} levels. Flatten it."
        ) from cause
    except (
        ValueError
    ) as cause:  # UnicodeDecodeError, JSONDecodeError, and integers too long for Python
        raise error(
            f"{subject} is not valid UTF-8 JSON ({_short(cause)}). Write it again."
        ) from cause
    if _depth_exceeds(value, limits.nesting):
        raise error(f"{subject} is nested deeper than {limits.nesting} levels. Flatten it.")
    return value


def _short(cause: ValueError) -> str:
    return str(cause).splitlines()[0][:100] if str(cause) else type(cause).__name__


def open_regular(path: Path) -> BufferedReader:
    """A file opened to read bytes, and never what blocks or never ends: a pipe, a device.

    Raises:
        UnsafeFileError: It is no regular file.
        OSError: It cannot be opened.
    """
    # Without O_NONBLOCK, opening a named pipe waits for somebody to write to it.
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise UnsafeFileError(f"`{path.name}` is not a regular file. Pass a file.")
    return file


def read_json(
    path: Path,
    *,
    limits: Limits = DEFAULT_LIMITS,
    error: type[LoraGenError] = AdapterConfigError,
) -> dict[str, Any]:
    """The object in a JSON file, under `parse_json`'s rules.

    Raises:
        LoraGenError: (as `error`) The file is missing, larger than `limits.json_bytes`, or refused.
        UnsafeFileError: It is no regular file.
    """
    subject = f"`{path.name}`"
    try:
        with open_regular(path) as file:
            data = file.read(limits.json_bytes + 1)
    except OSError as cause:
        raise error(f"{subject} cannot be read in `{path.parent}` ({cause.strerror}).") from cause
    if len(data) > limits.json_bytes:
        raise error(f"{subject} is larger than {limits.json_bytes} bytes, the most that is read.")
    value = parse_json(data, subject=subject, limits=limits, error=error)
    if not isinstance(value, dict):
        raise error(f"{subject} holds a JSON {type(value).__name__}, and must hold an object.")
    return value
