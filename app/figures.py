"""`python -m app.figures`: draws the measured tables of the app into its README.

The tables come from `docs/app/first_visit.json` and `docs/app/load.json`, which the measuring
commands write with `--out`. `--check` changes nothing and fails where the README says otherwise.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_gen.files import atomic_write_json

if TYPE_CHECKING:
    from app.load import Goal

ROOT = Path(__file__).parent.parent
README, REPORTS = ROOT / "app" / "README.md", ROOT / "docs" / "app"
BEGIN, END = "<!-- figures:begin -->", "<!-- figures:end -->"


def keep(path: Path, report: dict[str, Any]) -> None:
    """Write a report where `main` finds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_json(path, report)


def goal_rows(goals: Iterable[Goal]) -> list[str]:
    """The load's table, a line each."""
    head = ["| goal | asked | measured | met |", "| --- | --- | --- | --- |"]
    return head + [
        f"| {g.name} | {g.asked} | {g.measured} | {'yes' if g.met else 'no'} |" for g in goals
    ]


def visit_rows(report: dict[str, Any]) -> list[str]:
    """The first visit's table, a line each: the median and the slowest of some starts."""
    head = ["| a visitor waits for | at most | median | slowest |", "| --- | --- | --- | --- |"]
    return head + [
        f"| {row['name']} | {row['bar_s']:.0f} s | {row['median_s']:.1f} s | "
        f"{row['slowest_s']:.1f} s |"
        for row in report["rows"]
    ]


def drawn(folder: Path = REPORTS) -> str:
    """Everything between the README's marks."""
    from app.load import Goal

    visit = json.loads((folder / "first_visit.json").read_text("utf-8"))
    load = json.loads((folder / "load.json").read_text("utf-8"))
    parts = [
        "\n".join(visit_rows(visit)),
        _told(visit),
        "\n".join(goal_rows(Goal(**row) for row in load["goals"])),
        _told(load),
    ]
    return f"{BEGIN}\n" + "\n\n".join(parts) + f"\n{END}"


def _told(report: dict[str, Any]) -> str:
    return (
        f"`{report['command']}` on {report['cores']} cores, which the measuring clients shared; "
        f"load average {report['load_before']} before the start."
    )


def main(argv: list[str] | None = None) -> int:
    """Draw, or check."""
    parser = argparse.ArgumentParser(prog="python -m app.figures", description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args(argv).check
    before = README.read_text("utf-8")
    start, end = before.index(BEGIN), before.index(END) + len(END)
    after = before[:start] + drawn() + before[end:]
    if check:
        return int(after != before)
    README.write_text(after, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
