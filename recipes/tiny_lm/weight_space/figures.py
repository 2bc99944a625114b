"""Write the tables and pictures of docs/weight_space.md from the reports beside it.

python -m recipes.tiny_lm.weight_space.figures

A report that does not exist leaves its section as it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recipes.tiny_lm.weight_space.bench import REPORTS

PAGE = Path("docs/weight_space.md")
Report = dict[str, Any]


def cell(interval: dict[str, float]) -> str:
    """An interval as text."""
    return f"{interval['value']:.2f} [{interval['low']:.2f}, {interval['high']:.2f}]"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def merge_table(report: Report) -> str:
    """Methods by number of tasks, the best merge first."""
    sizes = sorted(report["sizes"], key=int)
    found = {size: report["sizes"][size]["exact_match"] for size in sizes}
    first = found["4" if "4" in found else sizes[0]]
    names = sorted(first, key=lambda name: -first[name]["value"])
    rows = [
        [name, *(cell(found[s][name]) if name in found[s] else "" for s in sizes)] for name in names
    ]
    head = ["exact match", *(f"{s} tasks (n={report['sizes'][s]['groups']} groups)" for s in sizes)]
    return table(head, rows)


def compress_table(report: Report) -> str:
    """Ways by bytes."""
    found = sorted(report["rows"].items(), key=lambda item: -item[1]["bytes"])
    rows = [
        [name, f"{row['bytes']:,}", cell(row["exact_match"]), cell(row["loss"])]
        for name, row in found
    ]
    return table(["way", "bytes an adapter", "exact match", "loss against the original"], rows)


def lineage_table(report: Report) -> str:
    """Recall by kind, and both totals."""
    rows = [
        [kind, f"{row['right']} of {row['planted']}"]
        for kind, row in report["recall_by_kind"].items()
    ]
    rows.append(["all planted", cell(report["recall"])])
    rows.append(["of all claims, right", cell(report["precision"])])
    return table(["relation", "found with kind and parents right"], rows)


def edit_table(report: Report) -> str:
    """Ways to edit."""
    rows = [[name, cell(found)] for name, found in report["exact_match"].items()]
    return table(["adapter", f"exact match on the edited task (n={report['tasks']})"], rows)


def federate_table(report: Report) -> str:
    """Ways to aggregate by round."""
    found = report["rounds"]
    rounds = len(next(iter(found.values())))
    rows = [[name, *(cell(one) for one in values)] for name, values in found.items()]
    return table(["aggregation", *(f"round {i + 1}" for i in range(rounds))], rows)


def nowcast_table(report: Report) -> str:
    """Share of steps saved."""
    rows = [[name, cell(found)] for name, found in report["saved"].items()]
    return table(["jump", f"share of steps saved (n={report['tasks']})"], rows)


def compress_plot(report: Report, axes: Any) -> None:
    """Exact match against bytes."""
    for name, row in report["rows"].items():
        found = row["exact_match"]
        error = [[found["value"] - found["low"]], [found["high"] - found["value"]]]
        axes.errorbar(row["bytes"], found["value"], yerr=error, fmt="o", ms=5, lw=0.8, label=name)
    axes.set_xscale("log")
    axes.set_xlabel("bytes an adapter")
    axes.set_ylabel("exact match, held-out tasks")
    axes.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))


def merge_plot(report: Report, axes: Any) -> None:
    """Exact match of every method with its interval, the best on top; a color a number of tasks."""
    sizes = sorted(report["sizes"], key=int)
    first = report["sizes"][sizes[0]]["exact_match"]
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


def path_plot(report: Report, axes: Any) -> None:
    """Exact match on both ends' tasks along the paths between two adapters."""
    for name, curve in report["curves"].items():
        line = "-" if name.startswith("first") else "--"
        axes.plot(report["shares"], curve, line, marker="o", ms=3, lw=1, label=name)
    axes.set_xlabel("share of the second adapter")
    axes.set_ylabel("exact match")
    axes.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))


TABLES: dict[str, Callable[[Report], str]] = {
    "merge": merge_table,
    "compress": compress_table,
    "lineage": lineage_table,
    "edit": edit_table,
    "federate": federate_table,
    "nowcast": nowcast_table,
}
PLOTS: dict[str, Callable[[Report, Any], None]] = {
    "compress": compress_plot,
    "merge": merge_plot,
    "paths": path_plot,
}


def main() -> None:
    """Write what there are reports for."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "lora_gen"
    from matplotlib import pyplot

    text = PAGE.read_text()
    for path in sorted(REPORTS.glob("*.json")):
        name, report = path.stem, json.loads(path.read_text())
        if name in TABLES:
            begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
            before, rest = text.split(begin)
            text = f"{before}{begin}\n{TABLES[name](report)}\n{end}{rest.split(end)[1]}"
        if name in PLOTS:
            figure, axes = pyplot.subplots(figsize=(7.5, 3.6))
            PLOTS[name](report, axes)
            axes.spines[["top", "right"]].set_visible(False)
            figure.tight_layout()
            figure.savefig(REPORTS / f"{name}.svg", metadata={"Date": None})
    PAGE.write_text(text)


if __name__ == "__main__":
    main()
