import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cli_factories import lora_gen


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = []

    def evaluate(**call: Any) -> dict[str, Any]:
        print("progress")
        calls.append(call)
        call["out"].mkdir()
        (call["out"] / "report.md").write_text("# Report\n")
        return {"share": 0.5}

    module = ModuleType("lora_gen.evaluation.run")
    vars(module)["evaluate"] = evaluate
    monkeypatch.setitem(sys.modules, "lora_gen.evaluation.run", module)
    return calls


def test_evaluate_json_is_the_report_alone(calls: list[dict[str, Any]], tmp_path: Path) -> None:
    out = tmp_path / "report"
    result = lora_gen("evaluate", "--tasks", 3, "--seeds", 2, "--out", out, "--json")
    assert json.loads(result.stdout) == {"share": 0.5}
    assert (calls[0]["tasks"], calls[0]["seeds"], calls[0]["base"]) == (3, 2, "tiny_lm")


def test_evaluate_shows_the_written_report(calls: list[dict[str, Any]], tmp_path: Path) -> None:
    result = lora_gen("evaluate", "--out", tmp_path / "report")
    assert result.stdout.startswith("# Report\n")


def test_evaluate_refuses_before_measuring_when_the_output_exists(
    calls: list[dict[str, Any]], tmp_path: Path
) -> None:
    assert lora_gen("evaluate", "--out", tmp_path).exit_code == 2
    assert calls == []
