"""Files that ship with the package: the embedded base, generator and zoo of each world."""

from __future__ import annotations

from pathlib import Path

_ROOT = Path(__file__).parent
_WORLDS = ("tiny_lm", "tiny_sd", "minilm")


def asset_path(*parts: str) -> Path:
    """Path of a shipped file or folder, whether or not it exists."""
    return _ROOT.joinpath(*parts)


def default_generator(base: str | None = None) -> Path:
    """Folder of the generator that is used when none is named.

    Args:
        base: The base that is asked for; one that ships with a generator of its own gets that one.
    """
    if base in _WORLDS and asset_path(base, "generator").is_dir():
        return asset_path(base, "generator")
    return asset_path("tiny_lm", "generator")
