"""Scores to report.json and report.md: intervals of every method, shares of the oracle's gain."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lora_gen.errors import ConfigError
from lora_gen.evaluation.statistics import mean_interval, share_of_gain
from lora_gen.files import atomic_write_json, atomic_write_text

BASE, ORACLE, GENERATED = "base zero-shot", "oracle LoRA", "generated"


def write_report(raw: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Summarize the scores and write both files.

    Args:
        raw: Settings and `scores`: split -> method -> one score a task.
        folder: Made if missing.

    Returns:
        `raw` with `summary`: split -> method -> interval, and `share_of_oracle_gain`.
    """
    summary: dict[str, Any] = {}
    for split, methods in raw["scores"].items():
        rows = {method: mean_interval(values).to_dict() for method, values in methods.items()}
        shares = {}
        for method in methods:
            if method in (BASE, ORACLE):
                continue
            try:
                shares[method] = share_of_gain(
                    methods[method], methods[BASE], methods[ORACLE]
                ).to_dict()
            except ConfigError:
                continue  # the oracle gains nothing here, so a share says nothing: left out
        summary[split] = {
            "tasks": len(methods[BASE]),
            "exact_match": rows,
            "share_of_oracle_gain": shares,
        }
    report = {**raw, "summary": summary}
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write_json(folder / "report.json", report)
    atomic_write_text(folder / "report.md", to_markdown(report))
    return report


def to_markdown(report: Mapping[str, Any]) -> str:
    """Two tables, methods down and splits across."""
    splits = list(report["summary"])
    methods = list(report["summary"][splits[0]]["exact_match"])
    head = [
        "method",
        *(f"{s.replace('_', ' ')} (n={report['summary'][s]['tasks']})" for s in splits),
    ]
    scores = [
        [m, *(_cell(report["summary"][s]["exact_match"].get(m)) for s in splits)] for m in methods
    ]
    gained = [m for m in methods if m not in (BASE, ORACLE)]
    shares = [
        [m, *(_cell(report["summary"][s]["share_of_oracle_gain"].get(m)) for s in splits)]
        for m in gained
    ]
    settings = (
        f"Base `{report['base']}`; exact match over {report['inputs']} test inputs a task; "
        "95% bootstrap intervals over tasks. Generated from text alone: mean over "
        f"{report['seeds']} seeds, each with another wording, none picked."
    )
    return "\n".join(
        [
            "# Evaluation",
            "",
            settings,
            "",
            "## Exact match",
            "",
            *_table(head, scores),
            "",
            "## Share of the oracle's gain over the base",
            "",
            *_table(head, shares),
            *_costs(report.get("costs", {})),
            "",
        ]
    )


def _costs(costs: Mapping[str, Mapping[str, float]]) -> list[str]:
    """What each method keeps and takes, where it was measured."""
    if not costs:
        return []
    rows = [
        [name, f"{cost['parameters']:,}", f"{1000 * cost['seconds']:.1f}"]
        for name, cost in costs.items()
    ]
    head = ["method", "values kept", "milliseconds an adapter"]
    return ["", "## What an adapter costs", "", *_table(head, rows)]


def _cell(interval: Mapping[str, float] | None) -> str:
    if interval is None:
        return "\u2013"
    return f"{interval['value']:.3f} [{interval['low']:.2f}, {interval['high']:.2f}]"


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]
