"""The generator's own report, as its evaluation wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_gen.strict_json import read_json

SPLITS = ("seen", "unseen_wording", "unseen_composition", "unseen_argument", "unseen_primitive")
METHODS = ("base zero-shot", "nearest text", "generated", "base 4-shot", "oracle LoRA")


@dataclass(frozen=True, kw_only=True)
class Report:
    """How good the generator is, measured."""

    text: str
    """The report in Markdown; our own file."""

    scores: Mapping[str, Mapping[str, tuple[float, float, float]]]
    """Split -> method -> (mean, low, high) exact match."""


def read_report(folder: Path) -> Report | None:
    """The report in a folder; None where the generator has none."""
    text, data = folder / "report.md", folder / "report.json"
    if not text.is_file() or not data.is_file():
        return None
    return Report(text=text.read_text("utf-8"), scores=_scores(read_json(data)))


def _scores(data: Mapping[str, Any]) -> dict[str, dict[str, tuple[float, float, float]]]:
    return {
        split: {
            method: (interval["value"], interval["low"], interval["high"])
            for method, interval in measures["exact_match"].items()
        }
        for split, measures in data["summary"].items()
    }
