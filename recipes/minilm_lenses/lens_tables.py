"""Summaries and tables of the report on lenses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lora_gen.errors import ConfigError
from lora_gen.evaluation.lenses import BASE, ORACLE
from lora_gen.evaluation.statistics import mean_interval, paired_difference_interval, share_of_gain

MEASURES = {"map": "mAP", "knn": "8-NN accuracy", "zero_shot": "value names as classes"}
MEASURES |= {"others": "mAP of other criteria"}
Rows = Sequence[Mapping[str, float]]


def summary(scores: Mapping[str, Rows]) -> dict[str, Any]:
    """Intervals over criteria of every way: measures, gain in mAP, share of the oracle's gain."""
    found: dict[str, Any] = {}
    for way, rows in scores.items():
        found[way] = {
            name: mean_interval([row[name] for row in rows]).to_dict()
            for name in MEASURES
            if name in rows[0]
        }
        own, base, oracle = ([row["map"] for row in scores[w]] for w in (way, BASE, ORACLE))
        if way == BASE:
            continue
        found[way]["gain"] = paired_difference_interval(own, base).to_dict()
        if way == ORACLE:
            continue
        try:
            found[way]["share"] = share_of_gain(own, base, oracle).to_dict()
        except ConfigError as error:
            found[way]["no_share"] = str(error)
    return found


def split_table(rows: Mapping[str, Any]) -> str:
    """A split: every way, its measures and its share of the oracle's gain."""
    columns = [name for name in MEASURES if name in rows[BASE]]
    heads = [*(MEASURES[name] for name in columns), "gain in mAP", "share of the oracle's gain"]
    lines = ["| way | " + " | ".join(heads) + " |", "| --- |" + " --- |" * len(heads)]
    for way, row in rows.items():
        cells = [f"{row[name]['value']:.3f}" for name in columns]
        cells += [cell(row.get("gain"), 3), cell(row.get("share"), 2)]
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def to_markdown(report: Mapping[str, Any]) -> str:
    """One table a split."""
    parts = ["# Lenses"]
    for split, rows in report["summary"].items():
        count = len(report["scores"][split][BASE])
        parts += [f"## {split.replace('_', ' ')} ({count} criteria)", split_table(rows)]
    return "\n\n".join(parts) + "\n"


def cell(interval: Mapping[str, float] | None, digits: int = 2) -> str:
    """A value with its interval."""
    if interval is None:
        return "\u2013"
    value, low, high = (f"{interval[key]:.{digits}f}" for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"
