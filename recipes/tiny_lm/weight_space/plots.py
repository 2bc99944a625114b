"""Pictures of docs/weight_space.md, each from one report."""

from __future__ import annotations

from typing import Any

Report = dict[str, Any]


def compress_plot(figure: Any, report: Report) -> None:
    """Exact match against bytes."""
    axes = figure.subplots()
    for name, row in report["rows"].items():
        found = row["exact_match"]
        error = [[found["value"] - found["low"]], [found["high"] - found["value"]]]
        axes.errorbar(row["bytes"], found["value"], yerr=error, fmt="o", ms=5, lw=0.8, label=name)
    axes.set_xscale("log")
    axes.set_xlabel("bytes an adapter")
    axes.set_ylabel("exact match, held-out tasks")
    axes.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))


def merge_plot(figure: Any, report: Report) -> None:
    """Exact match of every method with its interval, the best on top; a color a number of tasks."""
    axes = figure.subplots()
    sizes = sorted(report["sizes"], key=int)
    first = report["sizes"]["4" if "4" in report["sizes"] else sizes[0]]["exact_match"]
    names = sorted(first, key=lambda name: float(first[name]["value"]))
    for j, size in enumerate(sizes):
        cells = [report["sizes"][size]["exact_match"][name] for name in names]
        values = [cell["value"] for cell in cells]
        reach = [
            [cell["value"] - cell["low"] for cell in cells],
            [cell["high"] - cell["value"] for cell in cells],
        ]
        where = [i + 0.2 * (j - (len(sizes) - 1) / 2) for i in range(len(names))]
        axes.errorbar(values, where, xerr=reach, fmt="o", ms=3, lw=0.8, label=f"{size} tasks")
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set_xlabel("exact match, held-out tasks")
    axes.legend(fontsize=7, frameon=False, loc="lower right")


def path_plot(figure: Any, report: Report) -> None:
    """Exact match on both ends' tasks along each path, and on both together."""
    left, right = figure.subplots(1, 2, sharey=True)
    lines = (("first task", "-"), ("second task", "--"))
    for color, (name, found) in enumerate(report["curves"].items()):
        axes = left if name.startswith("trained") else right
        shade = f"C{color}"
        for side, style in lines:
            values = [one["value"] for one in found[side]]
            axes.plot(report["shares"], values, style, color=shade, lw=1)
        both = found["both"]
        low, high = ([one[end] for one in both] for end in ("low", "high"))
        axes.fill_between(report["shares"], low, high, color=shade, alpha=0.2, lw=0)
        values = [one["value"] for one in both]
        label = f"{name.split(', ')[1]}: both"
        axes.plot(report["shares"], values, "o-", color=shade, ms=3, lw=1.8, label=label)
    for axes, title in ((left, "trained adapters"), (right, "generated adapters")):
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("share of the second adapter")
        axes.set_ylim(-0.02, 1.32)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
        axes.legend(fontsize=7, frameon=False, loc="upper center", ncols=2)
    left.set_ylabel("exact match")


def nowcast_plot(figure: Any, report: Report) -> None:
    """Test loss by optimizer step."""
    axes = figure.subplots()
    for name, losses in report["mean_loss"].items():
        steps = [report["spacing"] * i for i in range(len(losses))]
        axes.plot(steps, losses, marker="o", ms=2.5, lw=1, label=name)
    axes.set_yscale("log")
    axes.set_xlabel("optimizer steps")
    axes.set_ylabel("loss on held-out inputs")
    axes.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))


def continual_plot(figure: Any, report: Report) -> None:
    """Share of the old tasks' score that is left after each increment."""
    axes = figure.subplots()
    for name, found in report["ways"].items():
        kept = found.get("old kept by increment")
        if kept:
            axes.plot(range(len(kept) + 1), [1.0, *kept], marker="o", ms=3, lw=1, label=name)
        elif kept is not None:
            axes.axhline(found["old kept"]["value"], ls=":", lw=1, color="gray", label=name)
    axes.axhline(0.95, lw=0.6, color="black")
    axes.set_xticks(range(len(report["families"]) + 1), ["before", *report["families"]], fontsize=7)
    axes.set_xlabel("after learning")
    axes.set_ylabel("old tasks, share of score kept")
    axes.legend(fontsize=7, frameon=False)
