"""The report on lenses: what is measured on what, and how it is told."""

from __future__ import annotations

import random
from typing import Any

import pytest

from lora_gen.evaluation.lenses import BASE, ORACLE
from recipes.minilm_lenses.evaluate import report_of
from recipes.minilm_lenses.lens_tables import cell, summary, to_markdown
from recipes.minilm_lenses.tasks import HAND_NEW, NEW, UNTOUCHED, tasks_of
from recipes.minilm_lenses.world.criteria import family_of
from recipes.minilm_lenses.world.tables import criteria

UNSEEN = ("urgency.urgency", "food.taste", "vehicle.medium")


def rows(level: float, count: int = 12) -> list[dict[str, float]]:
    rng = random.Random(level)
    noise = [rng.uniform(-0.02, 0.02) for _ in range(count)]
    return [{"map": level + e, "knn": level, "zero_shot": level, "others": 0.3} for e in noise]


@pytest.fixture(scope="module")
def tasks() -> dict[str, Any]:
    return tasks_of(UNSEEN, None)


def test_tasks_are_criteria_of_the_zoo_on_unseen_and_handwritten_sentences(
    tasks: dict[str, Any],
) -> None:
    assert set(tasks) == {NEW, HAND_NEW}
    assert {task.name for task in tasks[NEW]} == set(UNSEEN)
    assert all(task.sources[0] for task in tasks[NEW])
    assert all(source is None for task in tasks[HAND_NEW] for source in task.sources)


def test_the_words_of_another_criterion_are_of_another_family(tasks: dict[str, Any]) -> None:
    by_description = {task.description: task.name for task in tasks[NEW]}
    for task in tasks[NEW]:
        other = by_description[task.other_words]
        assert family_of(criteria()[other]) != family_of(criteria()[task.name])


def test_no_measured_sentence_is_an_example(tasks: dict[str, Any]) -> None:
    for task in tasks[NEW]:
        assert not {text for text, _ in task.examples} & set(task.texts)


def test_summary_tells_the_share_of_the_oracles_gain() -> None:
    found = summary({BASE: rows(0.2), "half": rows(0.4), ORACLE: rows(0.6)})
    assert found["half"]["share"]["value"] == pytest.approx(0.5, abs=0.06)
    assert found["half"]["gain"]["low"] > 0.15
    assert "share" not in found[ORACLE]


def test_without_a_gain_of_the_oracle_there_is_no_share() -> None:
    found = summary({BASE: rows(0.4), "other": rows(0.5), ORACLE: rows(0.4001)})
    assert "cannot be told from zero" in found["other"]["no_share"]


def test_report_tells_unwatched_criteria_apart() -> None:
    keys = [*UNSEEN, "food.meal"]
    row = {BASE: rows(0.2)[0], ORACLE: rows(0.5)[0]}
    report = report_of({f"{NEW}/{key}": row for key in keys}, {NEW: keys})
    assert report["tasks"][UNTOUCHED] == ["urgency.urgency", "food.taste", "food.meal"]
    text = to_markdown(report)
    assert "unseen primitive, never looked at (3 criteria)" in text
    assert f"| {ORACLE} |" in text


def test_a_cell_has_its_interval_or_a_dash() -> None:
    assert cell({"value": 0.5, "low": 0.41, "high": 0.6}) == "0.50 [0.41, 0.60]"
    assert cell(None) == "\u2013"
