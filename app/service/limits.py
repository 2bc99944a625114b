"""What a visitor's values must be; repeated here, since a page's own limits bind only browsers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lora_gen.conditioning.text import check_text
from lora_gen.errors import ConditionError, GeneratorError

MAX_INPUTS = 16
MAX_CAPTIONS = 6
MAX_INPUT_CHARACTERS = 1_000
MAX_ROWS = 64
MAX_CANDIDATES = 8
MAX_STEPS = 64
MAX_RANK = 64
MAX_EXPORT = 24
MAX_STRENGTH = 2.0
AS_TRAINED = "as trained"
TARGETS = (AS_TRAINED, "all-linear", "attention", "mlp")


def whole(name: str, value: Any, low: int, high: int) -> int:
    """A whole number within bounds; 3.0 counts as 3.

    Raises:
        GeneratorError: It is something else.
    """
    number = bounded(name, value, low, high)
    if number != int(number):
        raise GeneratorError(f"`{name}` must be a whole number, but is {number:g}. Round it.")
    return int(number)


def bounded(name: str, value: Any, low: float, high: float) -> float:
    """A finite number within bounds.

    Raises:
        GeneratorError: It is something else, or out of bounds.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not low <= value <= high:
        shown = repr(value)[:40]
        raise GeneratorError(
            f"`{name}` must be a number between {low:,} and {high:,}, but is {shown}. "
            "Choose another."
        )
    return float(value)


def one_of(name: str, value: Any, allowed: Sequence[str]) -> str:
    """A text that is one of `allowed`.

    Raises:
        GeneratorError: It is not.
    """
    if not isinstance(value, str) or value not in allowed:
        raise GeneratorError(
            f"`{name}` must be one of {', '.join(allowed)}, but is {repr(value)[:60]}."
        )
    return value


def description(value: Any, *, required: bool) -> str | None:
    """The description without surrounding space; None when it is blank and not required.

    Raises:
        ConditionError: It is no text, too long, or missing.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        if required:
            raise ConditionError(
                "The description is empty. Say in `description` what the base should do."
            )
        return None
    return check_text(value, subject="description").strip()


def inputs(value: Any, *, name: str = "inputs", most: int = MAX_INPUTS) -> list[str]:
    """The inputs in a text, one a line, or in a list; blank ones are dropped.

    Raises:
        ConditionError: There are too many, or one is too long or not text.
    """
    lines = value.splitlines() if isinstance(value, str) else value
    if lines is None:
        return []
    if not isinstance(lines, list | tuple):
        raise ConditionError(
            f"`{name}` must be lines of text, but is {type(value).__name__}. Write one on a line."
        )
    found = [_line(name, line) for line in lines]
    found = [line for line in found if line.strip()]
    if len(found) > most:
        raise ConditionError(f"`{name}` has {len(found)} rows, but at most {most} are answered.")
    return found


def pairs(value: Any, *, name: str = "examples") -> list[tuple[str, str]]:
    """The input-output pairs in rows of two cells; rows that are blank are dropped.

    Raises:
        ConditionError: A row is no pair, or there are too many.
    """
    rows = [] if value is None else value
    if not isinstance(rows, list | tuple) or not all(isinstance(row, list | tuple) for row in rows):
        raise ConditionError(f"`{name}` must be rows of two cells. Write an input and its output.")
    found = []
    for number, row in enumerate(rows, start=1):
        cells = [_line(name, "" if cell is None else cell) for cell in row]
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != 2 or not all(cell.strip() for cell in cells):
            raise ConditionError(
                f"`{name}` row {number} must have an input and an output. Fill both, or clear it."
            )
        found.append((cells[0], cells[1]))
    if len(found) > MAX_ROWS:
        raise ConditionError(f"`{name}` has {len(found)} rows, but at most {MAX_ROWS} are used.")
    return found


def _line(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ConditionError(
            f"`{name}` holds {repr(value)[:40]}, which is not text. Write it as text."
        )
    if len(value) > MAX_INPUT_CHARACTERS:
        raise ConditionError(
            f"`{name}` holds a row of {len(value):,} characters, but at most "
            f"{MAX_INPUT_CHARACTERS:,} are allowed. Shorten it."
        )
    return check_text(value, subject=name) if value.strip() else ""
