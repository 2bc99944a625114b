"""The page on lenses says what the shipped report says."""

from __future__ import annotations

import json
import sys
from xml.etree import ElementTree

import pytest

from recipes.minilm_lenses import figures


@pytest.fixture(scope="module")
def report() -> dict:  # type: ignore[type-arg]
    return json.loads((figures.REPORTS / "report.json").read_text("utf-8"))


def test_page_and_picture_are_those_of_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["figures", "--check"])
    assert figures.main() == 0


def test_picture_has_a_bar_for_every_way_and_split(report: dict) -> None:  # type: ignore[type-arg]
    root = ElementTree.fromstring(figures.picture(report))
    bars = [one for one in root.iter() if one.tag.endswith("rect")]
    splits = [split for split in figures.DRAWN if split in report["summary"]]
    ways = [way for way in figures.ways_of(report["summary"]) if way in figures.PICTURED]
    drawn = sum(way in report["summary"][split] for split in splits for way in ways)
    assert len(bars) == 1 + len(splits) + drawn


def test_curve_has_a_row_for_every_run() -> None:
    gain = {"value": 0.1, "low": 0.05, "high": 0.2}
    rows = [{"criteria": n, "steps": 10, "splits": {figures.NEW: gain}} for n in (16, 125)]
    found = figures.curve_table(rows).splitlines()
    assert found[0] == "| criteria learned from | steps | unseen families |"
    assert found[3] == "| 125 | 10 | 0.100 [0.050, 0.200] |"
