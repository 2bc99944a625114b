"""`python -m app.first_visit`: how long a first visitor waits, as a table of bars and measures.

Everything is what a person sees: the app's own line, the button in a real browser, the download.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.screenshots import launch

if TYPE_CHECKING:
    from playwright.sync_api import Page

START_BAR, PAINT_BAR, CANDIDATE_BAR = 20.0, 3.0, 6.0
"""Seconds, on 2 cores."""

PATIENCE_MS = 300_000
TASK = "keep only the digits"


def start() -> tuple[subprocess.Popen[str], str, float]:
    """(the app in a process of its own, its address, seconds until it said so)."""
    began = time.monotonic()
    command = [sys.executable, "-m", "app", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None  # it is a pipe
    for line in process.stdout:
        if line.startswith("lora_gen is at "):
            return process, line.split()[3], time.monotonic() - began
    raise SystemExit("the app did not start")


def wait_until_warm(process: subprocess.Popen[str]) -> None:
    """Until the app says that its models are loaded."""
    assert process.stdout is not None  # it is a pipe
    for line in process.stdout:
        if line.startswith("ready: "):
            return


def first_paint(page: Page, url: str) -> float:
    """Seconds until a visitor with an empty cache can press the first button."""
    began = time.monotonic()
    page.goto(url)
    page.wait_for_selector("#generate")
    return time.monotonic() - began


def candidate(page: Page) -> float:
    """Seconds from pressing Generate until the adapter can be downloaded."""
    page.fill("#description textarea", TASK)
    began = time.monotonic()
    page.click("#generate")
    page.wait_for_selector("#made td")
    return time.monotonic() - began


def measure() -> list[tuple[str, float, float]]:
    """(what a visitor waits for, seconds allowed, seconds measured)."""
    process, url, started = start()
    try:
        with launch() as browser:
            page = browser.new_page()
            page.set_default_timeout(PATIENCE_MS)
            wait_until_warm(process)
            painted = first_paint(page, url)
            made = candidate(page)
    finally:
        process.terminate()
        process.wait()
    return [
        ("start-up", START_BAR, started),
        ("first paint", PAINT_BAR, painted),
        ("first candidate, warm", CANDIDATE_BAR, made),
    ]


def report(visits: Sequence[Sequence[tuple[str, float, float]]], load: float) -> dict[str, Any]:
    """JSON-able content of some visits, each to an app that was just started."""
    rows = []
    for parts in zip(*visits, strict=True):
        name, bar, _ = parts[0]
        seconds = [found for _, _, found in parts]
        middle = round(statistics.median(seconds), 2)
        slowest = round(max(seconds), 2)
        rows.append({"name": name, "bar_s": bar, "median_s": middle, "slowest_s": slowest})
    return {
        "command": " ".join(["python -m app.first_visit", *sys.argv[1:]]),
        "cores": os.cpu_count(),
        "load_before": round(load, 1),
        "rows": rows,
    }


def main(argv: list[str] | None = None) -> int:
    """Measure, print the table; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m app.first_visit", description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="keep the table as JSON")
    arguments = parser.parse_args(argv)
    load = os.getloadavg()[0]
    found = report([measure() for _ in range(arguments.repeats)], load)
    from app.figures import keep, visit_rows

    print("\n".join(visit_rows(found)))
    print(f"\n{os.cpu_count()} cores, load average {load:.1f} before the start.")
    if arguments.out:
        keep(arguments.out, found)
    return int(any(row["slowest_s"] > row["bar_s"] for row in found["rows"]))


if __name__ == "__main__":
    sys.exit(main())
