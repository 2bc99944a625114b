"""Floors below which a dependency has known ways in; each is the first release without them."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from lora_gen.errors import MissingDependencyError

SECURITY_FLOORS: Mapping[str, str] = {
    "torch": "2.10.0",  # CVE-2025-32434, CVE-2026-24747: pickles run code under weights_only
    "transformers": "5.3.0",  # CVE-2026-4372, CVE-2026-5241: configs that choose code to run
    "diffusers": "0.42.1",  # CVE-2026-44513, GHSA-4prv-5hj7-c2xr
    "peft": "0.20.0",  # imports named by an adapter's config, without an allow-list
    "safetensors": "0.8.0",
    "huggingface_hub": "1.29",  # file names that leave the download folder
    "gradio": "6.25",  # server-side requests, file reads and redirects fixed through 2026
    "starlette": "0.49.1",  # CVE-2025-54121, CVE-2025-62727
    "python-multipart": "0.0.27",  # CVE-2026-42561
}
_PYTHON_FLOORS = {(3, 11): (3, 11, 8), (3, 12): (3, 12, 2)}


def require_safe_versions(floors: Mapping[str, str] = SECURITY_FLOORS) -> None:
    """Check the installed packages; one that is absent is no risk.

    Raises:
        MissingDependencyError: One is below its floor.
    """
    for name, floor in floors.items():
        try:
            found = version(name)
        except PackageNotFoundError:
            continue
        if _order(found) < _order(floor):
            raise MissingDependencyError(
                f"`{name}` is {found}, and releases before {floor} have known security holes. Run "
                f"`pip install '{name}>={floor}'`."
            )


def python_warning(running: tuple[int, int, int] | None = None) -> str | None:
    """A sentence on a Python with a known hole, None for another; our own readers avoid the hole.

    Args:
        running: Version to judge; by default the one that runs.
    """
    found = running or sys.version_info[:3]
    floor = _PYTHON_FLOORS.get(found[:2])
    if floor is None or found >= floor:
        return None
    shown, wanted = (".".join(map(str, numbers)) for numbers in (found, floor))
    return (
        f"Python {shown} accepts zip files whose members overlap (CVE-2024-0450). Archives are "
        f"checked here all the same; {wanted} or later is recommended."
    )


def _order(text: str) -> tuple[tuple[int, ...], bool]:
    """Release numbers without trailing zeros, then whether it is final: 2.0rc1 < 2.0 = 2.0.0."""
    release = re.match(r"\d+(\.\d+)*", text)
    numbers = [int(part) for part in release.group().split(".")] if release else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    rest = text[release.end() :] if release else text
    return tuple(numbers), re.match(r"\.?(a|b|rc|dev)", rest) is None
