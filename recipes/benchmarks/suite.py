"""The suites that a benchmark recipe can ask for: rows of measurements, a table and a figure."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from lora_gen.files import atomic_write_json, atomic_write_text
from recipes.benchmarks.measure import measured

_OURS = "recipes.benchmarks.ours:generate"
_PEERS = "recipes.benchmarks.peers"
_DND_VALUES = 4296 * 8 * 128
"""What Drag-and-Drop's decoder for Qwen2.5-0.5B at rank 8 makes, padding included."""

Row = dict[str, Any]


def size_rows(adapters: Sequence[str], *, steps: int, workers: int, device: str) -> list[Row]:
    """Our pipeline for each `base/rank`, from small to large."""
    rows = []
    for adapter in adapters:
        base, rank = adapter.split("/")
        options = {"steps": steps, "workers": workers, "device": device}
        row = measured(_OURS, base=base, rank=int(rank), **options)
        seconds = row["cpu_seconds" if device == "cpu" else "seconds"]
        row["giga_operations_a_second"] = round(1e3 * row["tera_operations"] / seconds)
        rows.append({"name": adapter, **row})
    return rows


def peer_rows(*, workers: int, device: str, rpg_widths: Sequence[int]) -> list[Row]:
    """Ours at 1, 2, 4 and 20 steps beside the published designs, for Qwen2.5-0.5B at rank 8.

    An RPG-style denoiser is measured for one step on every 64th token, and multiplied: its tokens
    are batch items, and its steps are alike.
    """
    rows = [
        {"name": f"ours, {steps} steps", **measured(_OURS, base="qwen2.5-0.5b", rank=8, **options)}
        for steps in (1, 2, 4, 20)
        for options in ({"steps": steps, "workers": workers, "device": device},)
    ]
    rows.append(
        {
            "name": "T2L-style hypernetwork",
            **measured(f"{_PEERS}:t2l", base="qwen2.5-0.5b", rank=8, device=device),
        }
    )
    rows.append({"name": "DnD-style decoder", **measured(f"{_PEERS}:dnd", device=device)})
    for width in rpg_widths:
        one = measured(f"{_PEERS}:rpg", width=width, values=_DND_VALUES, share=64, device=device)
        for name, steps in (("DDIM-60", 60), ("T = 1000", 1000)):
            rows.append(_scaled(one, f"RPG-style core of width {width}, {name}", steps))
    return rows


def _scaled(row: Row, name: str, steps: int) -> Row:
    """The whole sampling: the recurrence once, the denoiser `steps` times, on all tokens."""
    times = {
        key: round(row["scale"] * (row["once"][key] + steps * (row[key] - row["once"][key])), 1)
        for key in ("seconds", "cpu_seconds")
    }
    share = round(1 / row["scale"], 4)
    measured_part = {"steps": 1, "share_of_tokens": share}
    return {
        **row,
        **times,
        "name": name,
        "values": _DND_VALUES,
        "extrapolated_from": measured_part,
    }


def growth_exponent(rows: Sequence[Mapping[str, Any]], key: str) -> float:
    """Slope of log(`key`) over log(values): 1 is linear."""
    points = [(math.log(row["values"]), math.log(row[key])) for row in rows]
    mean_x, mean_y = (sum(p[i] for p in points) / len(points) for i in (0, 1))
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points)
    return round(slope / sum((x - mean_x) ** 2 for x, _ in points), 3)


def write_report(folder: Path, title: str, rows: Sequence[Row], facts: Mapping[str, Any]) -> None:
    """`report.json`, `report.md`, and where rows are adapters `report.svg`, in `folder`."""
    machine = {
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load": round(os.getloadavg()[0], 1),
    }
    report = {"title": title, "machine": machine, **facts, "rows": list(rows)}
    atomic_write_json(folder / "report.json", report)
    if all("setup_mib" in row for row in rows):
        atomic_write_text(folder / "report.md", _table(title, rows, machine | dict(facts)))
        draw(folder / "report.svg", report)
        return
    lines = [f"# {title}", "", *_plain_table(rows), ""]
    lines += [f"- {key}: {value}" for key, value in (machine | dict(facts)).items()]
    atomic_write_text(folder / "report.md", "\n".join([*lines, ""]))


def _plain_table(rows: Sequence[Row]) -> list[str]:
    cells = [list(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return [lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]


def _table(title: str, rows: Sequence[Row], facts: Mapping[str, Any]) -> str:
    first = ("", "values", "seconds", "CPU seconds", "memory before", "peak memory")
    head = (*first, "parameters", "operations a second")
    lines = [f"# {title}", "", " | ".join(("", *head, "")).strip(), "|" + "---|" * len(head)]
    for row in rows:
        cells = (
            row["name"] + (" (by calculation)" if "extrapolated_from" in row else ""),
            f"{row['values']:,}",
            f"{row['seconds']:.2f}",
            f"{row['cpu_seconds']:.2f}",
            f"{row['setup_mib']:,} MiB",
            f"{row['peak_mib']:,} MiB",
            f"{row['generator_parameters'] / 1e6:.1f} M",
            f"{row['giga_operations_a_second']} G" if "giga_operations_a_second" in row else "",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *(f"- {key}: {value}" for key, value in facts.items()), ""])


def draw(path: Path, report: Mapping[str, Any]) -> None:
    """The picture of a report: sizes with the fitted power, anything else as bars."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "lora_gen"
    import matplotlib.pyplot as plt

    rows = report["rows"]
    has_growth = "growth_exponent" in report
    height = 3.4 if has_growth else 0.4 * len(rows) + 1.4
    figure, axes = plt.subplots(figsize=(7, height), layout="constrained")
    (_growth if has_growth else _bars)(axes, report)
    axes.set_title(report["title"])
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _bars(axes: Any, report: Mapping[str, Any]) -> None:
    names = [row["name"] for row in report["rows"]]
    axes.barh(names, [row["cpu_seconds"] for row in report["rows"]], color="#4c78a8")
    axes.set_xscale("log")
    axes.invert_yaxis()
    axes.set_xlabel("CPU seconds for one adapter (logarithmic)")


def _growth(axes: Any, report: Mapping[str, Any]) -> None:
    """Measured sizes, and seconds = c * values ** exponent by least squares on logarithms."""
    rows, exponent = report["rows"], report["growth_exponent"]
    key = "cpu_seconds" if report["machine"]["gpu"] is None else "seconds"
    values = [row["values"] for row in rows]
    level = sum(math.log(r[key]) - exponent * math.log(r["values"]) for r in rows) / len(rows)
    fitted = [math.exp(level + exponent * math.log(value)) for value in values]
    axes.plot(values, fitted, lw=1, color="gray", label=f"values ** {exponent}")
    axes.plot(values, [row[key] for row in rows], "o", color="#4c78a8", label="measured")
    for row in rows:
        axes.annotate(
            row["name"],
            (row["values"], row[key]),
            fontsize=7,
            xytext=(4, -8),
            textcoords="offset points",
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("values of the adapter")
    axes.set_ylabel("CPU seconds" if key == "cpu_seconds" else "seconds")
    axes.legend(fontsize=7, frameon=False)
