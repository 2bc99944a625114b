"""The report of an encoder as tables for people and as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from lora_gen.files import atomic_write_bytes

_BAR, _LABEL, _ROW = 330, 260, 26
_BARS = {"top1": 0.50, "top10": 0.85}
"""What an encoder should reach; drawn as a line."""


def markdown(report: Mapping[str, Any]) -> str:
    """Tables of everything in a report."""
    retrieval = report["retrieval"]
    lines = [
        "# The encoder of weights: what was measured",
        "",
        f"Gallery of {retrieval['gallery']} adapters of unseen tasks; trained on "
        f"{retrieval['trained on']['adapters']} adapters of "
        f"{retrieval['trained on']['tasks']} other tasks. Brackets: 95% bootstrap over tasks.",
        "",
        *_retrieval_table(retrieval["methods"], "all"),
        "",
        "## By kind of unseen task",
        "",
        *_split_table(retrieval["methods"]["encoder"]),
        "",
        f"## One recipe, {retrieval['one recipe']['gallery']} adapters",
        "",
        *_retrieval_table(retrieval["one recipe"]["methods"], "all"),
    ]
    for name, found in report["quality"].items():
        lines += [
            "",
            f"## Predicted accuracy: {name} ({found['adapters']} adapters, "
            f"{found['known']:.0%} inside the support)",
            "",
            *_quality_table(found["methods"]),
            "",
            *_fact_table(found["facts"]),
        ]
    return "\n".join(lines) + "\n"


def _retrieval_table(methods: Mapping[str, Any], split: str) -> list[str]:
    rows = ["| method | top-1 | top-10 | MRR | regret |", "|---|---|---|---|---|"]
    for name, found in ordered(methods).items():
        cells = [_interval(found[split][key]) for key in ("top1", "top10", "mrr", "regret")]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return rows


def _split_table(found: Mapping[str, Any]) -> list[str]:
    rows = ["| unseen | queries | top-1 | top-10 | MRR |", "|---|---|---|---|---|"]
    for split, values in found.items():
        cells = [_interval(values[key]) for key in ("top1", "top10", "mrr")]
        rows.append(f"| {split} | {values['queries']} | {' | '.join(cells)} |")
    return rows


def _quality_table(methods: Mapping[str, Any]) -> list[str]:
    rows = [
        "| method | Kendall τ | R² | mean error | 90% interval covers | mean width |",
        "|---|---|---|---|---|---|",
    ]
    for name, found in methods.items():
        covers = _interval(found["coverage"]) if "coverage" in found else ""
        width = f"{found['mean width']:.2f}" if "mean width" in found else ""
        rows.append(
            f"| {name} | {found['tau']:.3f} | {found['r2']:.3f} | {found['mae']:.3f} | {covers} | "
            f"{width} |"
        )
    return rows


def _fact_table(facts: Mapping[str, Any]) -> list[str]:
    rows = [
        "| what the weights tell | adapters | right | balanced | commonest answer alone |",
        "|---|---|---|---|---|",
    ]
    for name, found in facts.items():
        rows.append(
            f"| {name} | {found['adapters']} | {_interval(found['accuracy'])} | "
            f"{found['balanced accuracy']:.3f} | {found['commonest answer']:.3f} |"
        )
    return rows


def _interval(value: Mapping[str, float]) -> str:
    return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"


def ordered(methods: Mapping[str, Any]) -> dict[str, Any]:
    """The methods, the best first and controls last."""
    names = sorted(
        methods, key=lambda n: (n.startswith("control"), -methods[n]["all"]["top1"]["value"])
    )
    return {name: methods[name] for name in names}


def figure(report: Mapping[str, Any], path: Path) -> None:
    """Top-1 and top-10 of every method as bars with their intervals, an SVG."""
    methods = ordered(report["retrieval"]["methods"])
    width, height = _LABEL + 2 * (_BAR + 30), 60 + _ROW * len(methods)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for panel, (key, goal) in enumerate(_BARS.items()):
        left = _LABEL + panel * (_BAR + 30)
        parts.append(f'<text x="{left}" y="22" font-weight="bold">{key}</text>')
        x = left + goal * _BAR
        parts.append(
            f'<line x1="{x:.0f}" y1="30" x2="{x:.0f}" y2="{height - 20}" stroke="#c0647b" '
            'stroke-dasharray="4 3"/>'
        )
        parts.append(f'<text x="{x + 4:.0f}" y="{height - 6}" fill="#c0647b">{goal:.2f}</text>')
        for row, (name, found) in enumerate(methods.items()):
            parts += _bar(left, 36 + row * _ROW, found["all"][key], name.startswith("encoder"))
    for row, name in enumerate(methods):
        y = 36 + row * _ROW + 14
        parts.append(f'<text x="{_LABEL - 10}" y="{y}" text-anchor="end">{escape(name)}</text>')
    atomic_write_bytes(path, ("\n".join([*parts, "</svg>"]) + "\n").encode())


def _bar(left: int, top: int, value: Mapping[str, float], own: bool) -> list[str]:
    color = "#2563eb" if own else "#9aa5b1"
    length, low, high = (value[name] * _BAR for name in ("value", "low", "high"))
    middle = top + 9
    return [
        f'<rect x="{left}" y="{top}" width="{length:.1f}" height="18" fill="{color}"/>',
        f'<line x1="{left + low:.1f}" y1="{middle}" x2="{left + high:.1f}" y2="{middle}" '
        'stroke="#222222"/>',
        f'<text x="{left + high + 4:.1f}" y="{top + 14}">{value["value"]:.2f}</text>',
    ]
