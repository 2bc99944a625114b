"""What an entrance says to an input."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """What an entrance said: a stable code, or `OK`, and its sentence."""

    code: str
    sentence: str = ""
    exit_code: int | None = None
    warnings: str = ""
    untyped: str = ""
    """An exception that is not the library's own; always a failure."""
