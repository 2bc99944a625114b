"""Suites about costs: what a report says follows from what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from lora_gen.errors import ConfigError
from lora_gen.pipeline_stream import sampling_line
from recipes.benchmarks import costs
from recipes.benchmarks.ours import large_generator
from recipes.benchmarks.suite import write_report
from recipes.benchmarks.tables import README, filled
from training.benchmark_task import BenchmarkConfig

STEPS = (1, 4)


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The `steps` suite over made-up measurements: one step loses one task of four."""
    scores = {"1": [1.0, 0.5, 0.5, 0.0], "4": [1.0, 0.5, 0.5, 1.0]}
    answers: dict[str, Any] = {
        "by_steps": {
            "tasks": 4,
            "training_cpu_seconds": 6.0,
            "found": {n: {"scores": s, "cpu_seconds": 0.1 * int(n)} for n, s in scores.items()},
        },
        "t2l": {"cpu_seconds": 0.5},
    }

    def measured(function: str, **arguments: Any) -> dict[str, Any]:
        name = function.rsplit(":", 1)[-1]
        return answers.get(name) or {"cpu_seconds": 1.0 + arguments["steps"]}

    monkeypatch.setattr(costs, "measured", measured)
    return costs.steps_rows(STEPS, 4)


def test_steps_are_compared_with_four_and_with_one_pass(rows: Any) -> None:
    one, four = rows[0]
    assert one["less 4 steps"].startswith("-0.250 [")
    assert four["less 4 steps"] == "0.000 [0.000, 0.000]"
    assert (one["times a one-pass hypernetwork"], four["times a one-pass hypernetwork"]) == (4, 10)
    assert rows[1]["training over sampling in 4 steps"] == 15.0


def test_report_of_costs_is_json_and_table(rows: Any, tmp_path: Path) -> None:
    write_report(tmp_path, "Steps", *rows)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["tasks"] == 4
    table = (tmp_path / "report.md").read_text().splitlines()
    assert table[2].startswith("| steps | exact match | less 4 steps |")
    assert table[4].startswith("| 1 | 0.500 [")


def test_two_processes_are_compared_by_clock_and_by_processor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured = {
        1: {"tokens_a_second": 100, "tokens_a_core_second": 100},
        2: {"tokens_a_second": 120, "tokens_a_core_second": 180},
    }
    monkeypatch.setattr(costs, "throughput", lambda recipe, count, steps: measured[count])
    facts = costs.training_rows("a.yaml", 4)[1]
    assert facts["1 to 2 processes, by the clock"] == 1.2
    assert facts["1 to 2 processes, with a core each"] == 1.8


def test_encoding_and_searching_have_a_row_each(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {
        "encoding": {"file_mb": 80.0, "core_seconds": 0.44},
        "searching": {"add_one_p95_ms": 27.0, "search_p95_ms": 15.2, "open_s": 0.071},
    }
    monkeypatch.setattr(costs, "measured", lambda name, **_: found[name.rsplit(":", 1)[-1]])
    rows = costs.search_rows([16], [10_000])
    assert rows[0] == {
        "what": "encode an 8B adapter, rank 16, 80 MB",
        "takes": "0.44 core-seconds",
    }
    assert rows[2] == {"what": "10,000 adapters: search (p95)", "takes": "15.2 ms"}


def test_a_table_of_vectors_is_searched_in_a_folder_that_goes(tmp_path: Path) -> None:
    found = costs.searching(20)()
    assert found["rows"] == 20
    assert found["search_p95_ms"] > 0


def test_step_counts_need_the_default() -> None:
    with pytest.raises(ConfigError, match=r"`task.step_counts` must hold 4"):
        BenchmarkConfig(suite="steps", step_counts=(1, 2))


def test_sampler_that_is_compiled_has_a_line() -> None:
    line = sampling_line(large_generator().scheduler, 4)
    assert line is not None
    assert torch.tensor(line.steps).shape == (4, 2)


def test_readme_shows_what_the_reports_say() -> None:
    text = README.read_text("utf-8")
    assert text.count("<!-- report ") == text.count("<!-- end -->") > 3
    assert filled(text) == text


def test_tables_are_put_between_their_marks(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "report.md").write_text("# Title\n\n| 1 |\n")
    assert filled("x\n<!-- report a -->\nold\n<!-- end -->\ny", tmp_path) == (
        "x\n<!-- report a -->\n| 1 |\n<!-- end -->\ny"
    )
