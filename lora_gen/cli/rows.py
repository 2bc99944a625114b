"""Files a user brings: unlabeled inputs, one a line, and input-output pairs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from lora_gen.errors import ConditionError

MAX_FILE_BYTES = 1_000_000
_PROMPT_KEYS = ("input", "prompt", "text")
_EXAMPLE_KEYS = ("input", "output")

T = TypeVar("T")


def read_prompts(path: Path) -> list[str]:
    """The inputs in a `.txt` file, one a line, or a `.jsonl` file of strings or objects.

    An object has the input under `input`, `prompt` or `text`.

    Raises:
        ConditionError: The file cannot be read or is empty, or a row, which it names, is no input.
    """
    if path.suffix == ".txt":
        lines = _lines(path)
        return _filled(path, [_cell(path, number, line, "input") for number, line in lines])
    if path.suffix == ".jsonl":
        return _filled(path, [_prompt(path, number, row) for number, row in _json_rows(path)])
    raise _wrong_kind(path, "prompts", ".txt or .jsonl")


def read_examples(path: Path) -> list[tuple[str, str]]:
    """The pairs in a `.csv` or `.tsv` file of two columns, or a `.jsonl` file of objects or pairs.

    A first row `input,output` is a header. Objects have the keys `input` and `output`.

    Raises:
        ConditionError: The file cannot be read or is empty, or a row, which it names, is no pair.
    """
    if path.suffix in (".csv", ".tsv"):
        rows = list(_table_rows(path, delimiter="," if path.suffix == ".csv" else "\t"))
        if rows and tuple(cell.strip().lower() for cell in rows[0][1]) == _EXAMPLE_KEYS:
            rows = rows[1:]
        return _filled(path, [_pair(path, number, row) for number, row in rows])
    if path.suffix == ".jsonl":
        return _filled(path, [_pair(path, number, row) for number, row in _json_rows(path)])
    raise _wrong_kind(path, "examples", ".csv, .tsv or .jsonl")


def _text(path: Path) -> str:
    """The whole file as text; a byte-order mark is dropped."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ConditionError(
                f"`{path}` has {path.stat().st_size:,} bytes, but at most {MAX_FILE_BYTES:,} are "
                "allowed. A few dozen rows are enough."
            )
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConditionError(f"`{path}` is not UTF-8 text. Save it as UTF-8.") from error
    except OSError as error:
        raise ConditionError(
            f"`{path}` cannot be read ({error.strerror}). Check the name of the file."
        ) from error


def _lines(path: Path) -> list[tuple[int, str]]:
    """Numbered lines, without blank ones at the end."""
    lines = _text(path).rstrip("\r\n").split("\n")
    return [(number, line.removesuffix("\r")) for number, line in enumerate(lines, start=1)]


def _table_rows(path: Path, *, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(_text(path).rstrip("\r\n"), newline=""), delimiter=delimiter)
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise ConditionError(
            f"`{path}` line {reader.line_num} is not readable: {error}."
        ) from error


def _json_rows(path: Path) -> Iterator[tuple[int, Any]]:
    for number, line in _lines(path):
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ConditionError(
                f"`{path}` line {number} is not JSON. Write one JSON value on each line."
            ) from error


def _prompt(path: Path, number: int, row: Any) -> str:
    if isinstance(row, dict):
        row = next((row[key] for key in _PROMPT_KEYS if key in row), None)
    return _cell(path, number, row, "input")


def _pair(path: Path, number: int, row: Any) -> tuple[str, str]:
    if isinstance(row, dict) and set(row) >= set(_EXAMPLE_KEYS):
        row = [row[key] for key in _EXAMPLE_KEYS]
    if not isinstance(row, list) or len(row) != 2:
        found = f"{len(row)} columns" if isinstance(row, list) else type(row).__name__
        raise ConditionError(
            f"`{path}` line {number} has {found}, but must be a pair of input and output. "
            "Quote a value that holds the separator."
        )
    return _cell(path, number, row[0], "input"), _cell(path, number, row[1], "output")


def _cell(path: Path, number: int, value: Any, name: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ConditionError(
            f"`{path}` line {number} has no {name}. Every row must have a text that is not blank."
        )
    return value


def _filled(path: Path, rows: list[T]) -> list[T]:
    if not rows:
        raise ConditionError(f"`{path}` has no rows. Write at least one.")
    return rows


def _wrong_kind(path: Path, what: str, allowed: str) -> ConditionError:
    return ConditionError(
        f"`{path}` ends in `{path.suffix}`, but {what} are read from {allowed}. Convert the file."
    )
