from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lora_gen.evaluation.report import to_markdown, write_report

METHODS: dict[str, list[float]] = {
    "base zero-shot": [0.0, 0.1, 0.0, 0.1],
    "mean LoRA": [0.0, 0.2, 0.1, 0.1],
    "generated": [0.5, 0.6, 0.5, 0.6],
    "oracle LoRA": [1.0, 1.0, 1.0, 1.0],
}


def _raw(**scores: dict[str, list[float]]) -> dict[str, Any]:
    return {
        "base": "tiny_lm",
        "inputs": 16,
        "seeds": 3,
        "scores": scores or {"seen": METHODS, "unseen_composition": METHODS},
    }


def test_report_on_disk_is_the_report_returned(tmp_path: Path) -> None:
    report = write_report(_raw(), tmp_path / "new")
    assert json.loads((tmp_path / "new" / "report.json").read_text()) == report
    assert (tmp_path / "new" / "report.md").read_text() == to_markdown(report)
    assert report["scores"] == _raw()["scores"]


def test_report_has_the_mean_inside_its_interval(tmp_path: Path) -> None:
    cell = write_report(_raw(), tmp_path)["summary"]["seen"]["exact_match"]["generated"]
    assert cell["value"] == pytest.approx(0.55)
    assert cell["low"] <= cell["value"] <= cell["high"]


def test_report_share_is_zero_for_the_base_and_one_for_the_oracle(tmp_path: Path) -> None:
    methods = {
        **METHODS,
        "generated": METHODS["oracle LoRA"],
        "mean LoRA": METHODS["base zero-shot"],
    }
    shares = write_report(_raw(seen=methods), tmp_path)["summary"]["seen"]["share_of_oracle_gain"]
    assert {name: share["value"] for name, share in shares.items()} == {
        "generated": pytest.approx(1.0),
        "mean LoRA": pytest.approx(0.0),
    }


def test_report_leaves_shares_out_where_the_oracle_gains_nothing(tmp_path: Path) -> None:
    methods = {**METHODS, "oracle LoRA": METHODS["base zero-shot"]}
    report = write_report(_raw(seen=methods), tmp_path)
    assert report["summary"]["seen"]["share_of_oracle_gain"] == {}
    last = to_markdown(report).splitlines()[-1]
    assert last.startswith("| generated | \u2013 |")


def test_markdown_has_a_row_a_method_and_a_column_a_split(tmp_path: Path) -> None:
    text = to_markdown(write_report(_raw(), tmp_path))
    head, _, *rows = [line for line in text.splitlines() if line.startswith("|")]
    assert head == "| method | seen (n=4) | unseen composition (n=4) |"
    assert [row.split("|")[1].strip() for row in rows[:4]] == list(METHODS)
    assert "Base `tiny_lm`; exact match over 16 test inputs a task" in text
