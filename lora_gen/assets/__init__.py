"""Files that ship with the package: the embedded base, generator and zoo of each world."""

from __future__ import annotations

from pathlib import Path

_ROOT = Path(__file__).parent


def asset_path(*parts: str) -> Path:
    """Path of a shipped file or folder, whether or not it exists."""
    return _ROOT.joinpath(*parts)


def default_generator() -> Path:
    """Folder of the generator that is used when none is named."""
    return asset_path("tiny_lm", "generator")
