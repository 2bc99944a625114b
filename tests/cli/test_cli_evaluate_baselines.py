import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cli_factories import lora_gen

from lora_gen.evaluation.baselines.registry import DEFAULT


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = []
    cell = {"value": 0.5, "low": 0.4, "high": 0.6}

    def evaluate(**call: Any) -> dict[str, Any]:
        calls.append(call)
        call["out"].mkdir()
        (call["out"] / "report.md").write_text("# Report\n")
        summary = {"seen": {"exact_match": {"generated": cell}}}
        return {"summary": summary, "costs": {"generated": {"parameters": 10, "seconds": 0.1}}}

    module = ModuleType("lora_gen.evaluation.run")
    vars(module)["evaluate"] = evaluate
    monkeypatch.setitem(sys.modules, "lora_gen.evaluation.run", module)
    return calls


def test_evaluate_measures_the_default_baselines_unless_told(
    calls: list[dict[str, Any]], tmp_path: Path
) -> None:
    assert lora_gen("evaluate", "--out", tmp_path / "report").exit_code == 0
    assert tuple(calls[0]["baselines"]) == DEFAULT


@pytest.mark.parametrize(
    ("given", "names"),
    [("all", ["all"]), ("soup of 4, kernel ridge", ["soup of 4", "kernel ridge"])],
)
def test_evaluate_passes_the_named_baselines(
    calls: list[dict[str, Any]], tmp_path: Path, given: str, names: list[str]
) -> None:
    lora_gen("evaluate", "--baselines", given, "--out", tmp_path / "report")
    assert calls[0]["baselines"] == names


def test_evaluate_draws_what_methods_cost(calls: list[dict[str, Any]], tmp_path: Path) -> None:
    figure = tmp_path / "costs.svg"
    result = lora_gen("evaluate", "--out", tmp_path / "report", "--figure", figure)
    assert result.exit_code == 0, result.stderr
    assert figure.read_text().startswith("<?xml")
