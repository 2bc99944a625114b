"""`python -m app.first_visit`: how long a first visitor waits, as a table of bars and measures.

Everything is what a person sees: the app's own line, the button in a real browser, the download.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

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


def main(argv: list[str] | None = None) -> int:
    """Measure, print the table; 1 when a bar is missed."""
    argparse.ArgumentParser(prog="python -m app.first_visit", description=__doc__).parse_args(argv)
    load = os.getloadavg()[0]
    rows = measure()
    print("| a visitor waits for | at most | measured |\n| --- | --- | --- |")
    for name, bar, seconds in rows:
        print(f"| {name} | {bar:.0f} s | {seconds:.1f} s |")
    print(f"\n{os.cpu_count()} cores, load average {load:.1f} before the start.")
    return int(any(seconds > bar for _, bar, seconds in rows))


if __name__ == "__main__":
    sys.exit(main())
