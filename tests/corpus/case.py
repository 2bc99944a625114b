"""What a case of the corpus is, and the table they register in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ADAPTER = ("load", "inspect", "doctor", "convert", "apply", "zoo_add", "archive_of", "upload")
ARCHIVE = ("archive", "upload")
REQUEST = ("request",)
APP_REQUEST = ("app_request",)
BASE_NAME = ("base_name",)
STORE = ("zoo_read", "index")
INDEX = ("index",)
RUN = ("resume",)
ACT = ("act",)
"""What no single file or value is: a situation that the case itself brings about."""

OK = "OK"

Build = Callable[[Path], Any]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One hostile input: how it is made, and what has to be said about it."""

    number: str
    """Number in the table of cases, such as `W13`."""

    name: str
    build: Build
    """Given an empty folder, makes the input and returns what is handed in."""

    codes: tuple[str, ...]
    """Stable codes allowed; `OK` where it has to be accepted."""

    says: str = ""
    """A regular expression that the sentence matches."""

    entrances: tuple[str, ...] = ADAPTER
    with_base: bool = False
    """Whether the entrances that can are given the base, too."""

    warns: str = ""
    """A regular expression that a warning of the doctor matches."""

    @property
    def id(self) -> str:
        return f"{self.number}-{self.name}"


CASES: dict[str, Case] = {}


def add(
    number: str,
    name: str,
    build: Build,
    codes: str | Iterable[str],
    says: str = "",
    **options: Any,
) -> None:
    """Register a case; two of one name are a mistake."""
    given = (codes,) if isinstance(codes, str) else tuple(codes)
    case = Case(number=number, name=name, build=build, codes=given, says=says, **options)
    assert case.id not in CASES, case.id
    CASES[case.id] = case
