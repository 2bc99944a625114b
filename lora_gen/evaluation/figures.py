"""Pictures of what was measured; Matplotlib comes in here alone, and only when one is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lora_gen.errors import MissingDependencyError
from lora_gen.evaluation.report import GENERATED, ORACLE

_COLORS = ("#9aa5b1", "#c9b458", "#e0954a", "#7c6fb0", "#c0647b", "#5aa9a3", "#8d8d5a", "#b08968")
_FIXED = {GENERATED: "#2563eb", ORACLE: "#4a9d6e"}


def audit_figure(report: Mapping[str, Any], path: Path) -> None:
    """Accuracy against novelty, a point for each adapter of an audited generator.

    Args:
        report: What `audit_generator` returned.
        path: `.svg`, `.png` or `.pdf`.

    Raises:
        MissingDependencyError: Matplotlib is not installed.
    """
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(figsize=(7, 4.2))
    for name, color in _colored(list(report["groups"])):
        group = report["groups"][name]
        axes.scatter(
            group["relative_distance"],
            group["accuracy"],
            s=26 if name == GENERATED else 14,
            alpha=0.75,
            color=color,
            label=name,
            zorder=3 if name == GENERATED else 2,
        )
    axes.axvline(1, color="#777777", lw=0.8, ls="--")
    axes.axhline(report["bar"], color="#777777", lw=0.8, ls="--")
    axes.set_xlabel("distance to the nearest zoo adapter / zoo's own median")
    axes.set_ylabel("exact match on the task")
    _finish(figure, axes, path)


def cost_figure(report: Mapping[str, Any], path: Path, split: str) -> None:
    """Exact match on a split against values kept and against seconds an adapter.

    Args:
        report: What `evaluate` returned, with `costs`.
        path: `.svg`, `.png` or `.pdf`.
        split: The split whose scores are shown.

    Raises:
        MissingDependencyError: Matplotlib is not installed.
    """
    pyplot = _pyplot()
    figure, sides = pyplot.subplots(1, 2, figsize=(9, 4), sharey=True)
    scores = report["summary"][split]["exact_match"]
    words = {"parameters": "values kept", "seconds": "seconds an adapter"}
    for axes, (key, label) in zip(sides, words.items(), strict=True):
        for name, color in _colored(list(report["costs"])):
            cell, cost = scores[name], max(report["costs"][name][key], 1e-5)
            error = [[cell["value"] - cell["low"]], [cell["high"] - cell["value"]]]
            axes.errorbar(cost, cell["value"], yerr=error, fmt="o", color=color, label=name)
        axes.set_xscale("log")
        axes.set_xlabel(label)
    sides[0].set_ylabel(f"exact match, {split.replace('_', ' ')}")
    _finish(figure, sides[1], path)


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise MissingDependencyError(
            "A figure needs Matplotlib, which is not installed. Run `pip install matplotlib`."
        ) from error
    matplotlib.use("agg")
    matplotlib.rcParams["svg.hashsalt"] = "lora_gen"
    from matplotlib import pyplot

    return pyplot


def _colored(names: list[str]) -> list[tuple[str, str]]:
    others = [name for name in names if name not in _FIXED]
    colors = dict(zip(others, _COLORS * 3, strict=False)) | _FIXED
    return [(name, colors[name]) for name in names]


def _finish(figure: Any, axes: Any, path: Path) -> None:
    for each in figure.axes:
        each.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.tight_layout()
    metadata = {"Date": None} if path.suffix == ".svg" else None
    figure.savefig(path, metadata=metadata)
    figure.clear()
