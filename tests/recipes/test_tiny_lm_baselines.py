from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from recipes.tiny_lm.baseline_report import table
from recipes.tiny_lm.baseline_runs import HERE, RUNS, final, overrides_of, training_of
from recipes.tiny_lm.baselines import PAGE, REPORT, page_of
from training.recipe import load_recipe


@pytest.mark.parametrize("name", RUNS)
def test_run_is_a_valid_recipe_at_the_common_budget(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(HERE / RUNS[name].recipe, overrides_of(name, tmp_path, 300))
    assert (recipe.run.max_steps, recipe.run.batch_size, recipe.run.seed) == (300, 12, 0)
    goal = recipe.task.objective
    assert (goal.drop_text, goal.show_prompts, goal.show_examples) == (0, 0, 0)
    assert Path(recipe.run.output_dir) == final(name, tmp_path).parent
    if RUNS[name].learns == "weights":
        assert recipe.task.splits == ("seen",)


def test_runs_have_names_of_their_own() -> None:
    assert len({run.label for run in RUNS.values()}) == len(RUNS)


def test_training_of_says_what_a_run_cost(tmp_path: Path) -> None:
    folder = final("cvae", tmp_path).parent
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text('{"step": 20}\n{"step": 300, "loss": 1.0}\n')
    (folder / "cpu_seconds.json").write_text("90.5")
    wanted = {"learns": "weights", "steps": 300, "cpu_seconds": 90.5}
    assert training_of("cvae", tmp_path) == wanted


def _report() -> dict[str, Any]:
    one = {"value": 0.5, "low": 0.4, "high": 0.6}
    gain = {"generated": one, "cvae": {**one, "value": 0.1}, "nearest text": one}
    summary = {"tasks": 4, "share_of_oracle_gain": gain}
    cost = {"parameters": 1000, "seconds": 0.012}
    return {
        "summary": {"unseen_composition": summary, "seen": summary},
        "costs": dict.fromkeys(gain, cost),
        "training": {"cvae": {"learns": "weights", "steps": 300, "cpu_seconds": 90.0}},
        "inputs": 16,
        "seeds": 3,
    }


def test_table_puts_what_was_trained_first_and_names_what_was_not() -> None:
    lines = table(_report()).splitlines()
    assert lines[2].startswith("| cvae | weights | 0.10 [0.40, 0.60] |")
    assert lines[2].endswith("| 1,000 | 12 | 1.5 |")
    assert lines[3].startswith("| **ours, as shipped** |")
    assert "Not trained yet: ours, same budget" in lines[-1]
    assert "300 steps of 12 tasks" in lines[-1]


def test_page_has_the_table_and_the_figure_between_its_marks() -> None:
    page = page_of("a <!-- baselines:begin -->stale<!-- baselines:end --> b", _report())
    assert page.startswith("a <!-- baselines:begin -->\n| method |")
    assert page.endswith("(baselines/figure.svg)\n<!-- baselines:end --> b")
    assert "stale" not in page


@pytest.mark.skipif(not REPORT.is_file(), reason="nothing was measured yet")
def test_page_says_what_its_report_says() -> None:
    text = PAGE.read_text()
    assert page_of(text, json.loads(REPORT.read_text())) == text
