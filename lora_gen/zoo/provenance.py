"""Who learned from an entry: what the manifests and recipes of generators say."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

from lora_gen.errors import ZooError
from lora_gen.files import MANIFEST_NAME

_RECIPE_NAME = "recipe.yaml"
_ZOO_LINE = re.compile(r"^\s+zoo:\s*['\"]?(.+?)['\"]?\s*$", re.MULTILINE)


def trained_on(entry_id: str, zoo: Path, roots: Iterable[Path]) -> dict[str, str]:
    """Folders under `roots` that learned, or may have learned, from an entry.

    A folder did when the `parents` of its manifest name the entry, as the id or as `zoo:<id>`. It
    may have when its recipe names this zoo, which says nothing about single entries.

    Returns:
        Folder -> `learned from it` or `learned from this zoo`.

    Raises:
        ZooError: A root is no folder.
    """
    found: dict[str, str] = {}
    for root in roots:
        if not root.is_dir():
            raise ZooError(f"`{root}` is not a folder. Name where generators are kept.")
        for path in sorted(root.rglob(MANIFEST_NAME)):
            if _names(path, entry_id):
                found[str(path.parent)] = "learned from it"
        for path in sorted(root.rglob(_RECIPE_NAME)):
            if _uses(path, zoo):
                found.setdefault(str(path.parent), "learned from this zoo")
    return found


def _names(manifest: Path, entry_id: str) -> bool:
    try:
        parents = json.loads(manifest.read_text(encoding="utf-8")).get("parents", [])
    except (OSError, ValueError, AttributeError, RecursionError):
        return False  # not a manifest of ours, so it names nothing
    return isinstance(parents, list) and not {entry_id, f"zoo:{entry_id}"}.isdisjoint(
        parent for parent in parents if isinstance(parent, str)
    )


def _uses(recipe: Path, zoo: Path) -> bool:
    try:
        text = recipe.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False
    return any(Path(name).resolve() == zoo.resolve() for name in _ZOO_LINE.findall(text))
