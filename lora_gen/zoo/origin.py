"""Where an entry's adapter came from, as a record that stays with it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import lora_gen
from lora_gen.adapter.peft_format import PROVENANCE_NAME
from lora_gen.errors import ZooError
from lora_gen.files import sha256_file
from lora_gen.limits import DEFAULT_LIMITS
from lora_gen.strict_json import open_regular, read_json

CHECKS = ("format", "limits", "values", "block-list")
"""What an adapter has passed when it is added."""

_RECORD = replace(DEFAULT_LIMITS, json_bytes=20_000)
_SNAPSHOT = re.compile(r"models--(?P<name>[\w.-]+)/snapshots/(?P<commit>[0-9a-f]{40})")
_LICENSE = re.compile(r"^license:\s*([\w. +-]{1,80})\s*$", re.MULTILINE)


def origin_of(path: Path) -> dict[str, Any]:
    """The record of an adapter folder or file that is about to be added.

    Args:
        path: Of the adapter; of the path itself only the last name is kept.

    Returns:
        `source` (a name, or repository and commit of a hub snapshot), `files` with the sha256 of
        each, `license` and `made` where the folder says them, `checks`, and the code's version.
    """
    files = [path] if path.is_file() else sorted(p for p in path.iterdir() if _is_part(p))
    record: dict[str, Any] = {
        "source": _source(path),
        "files": {_plain(file.name): sha256_file(file) for file in files},
        "checks": list(CHECKS),
        "lora_gen": lora_gen.__version__,
    }
    if path.is_dir():
        record |= _said(path)
    return record


def _is_part(path: Path) -> bool:
    """Whether a file is one that adapters consist of; others are not read."""
    known = path.suffix in (".safetensors", ".json", ".md") and path.is_file()
    return known and path.stat().st_size <= DEFAULT_LIMITS.file_bytes


def _source(path: Path) -> str:
    found = _SNAPSHOT.search(str(path.resolve()))
    if found:
        return f"{found['name'].replace('--', '/')}@{found['commit']}"
    return _plain(path.resolve().name)


def _plain(name: str) -> str:
    return re.sub(r"[^\w. +@-]", "?", name)[:80]


def _said(folder: Path) -> Mapping[str, Any]:
    """What the folder says of itself: words of its author, kept as such."""
    said: dict[str, Any] = {}
    card, record = folder / "README.md", folder / PROVENANCE_NAME
    if card.is_file():
        with open_regular(card) as stream:
            found = _LICENSE.search(stream.read(DEFAULT_LIMITS.json_bytes).decode(errors="replace"))
        if found:
            said["license"] = found[1].strip()
    if record.is_file():
        try:
            said["made"] = read_json(record, limits=_RECORD, error=ZooError)
        except ZooError:
            said["made"] = "not readable"  # a stranger's record is no reason to refuse the weights
    return said
