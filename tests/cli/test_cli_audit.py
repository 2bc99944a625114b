import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cli_factories import lora_gen


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    calls: list[Any] = []
    record = {
        "adapter": "mine",
        "nearest_task": "upper",
        "cosine": 0.25,
        "relative": 0.9,
        "percentile": 0.4,
        "error_overlap": None,
        "verdict": "`mine` is new.",
    }
    rate = {"value": 0.5, "low": 0.4, "high": 0.6}
    group = {"accuracy": [0.5, 1.0], "copies": 0.0, "novel_and_performant": {"1": rate}}

    def audit_adapters(folders: Any, zoo: Path) -> dict[str, Any]:
        print("progress")
        calls.append((folders, zoo))
        return {"adapters": [record]}

    def audit_generator(**call: Any) -> dict[str, Any]:
        calls.append(call)
        groups = {"generated": group}
        return {"split": "seen", "tasks": ["a", "b"], "groups": groups, "verdict": "It works."}

    module = ModuleType("lora_gen.evaluation.audit")
    vars(module).update(audit_adapters=audit_adapters, audit_generator=audit_generator)
    monkeypatch.setitem(sys.modules, "lora_gen.evaluation.audit", module)
    return calls


def test_audit_says_its_verdict_last(calls: list[Any]) -> None:
    result = lora_gen("audit", "mine", "--zoo", "my-zoo")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "`mine` is new."
    assert calls == [([Path("mine")], Path("my-zoo"))]


def test_audit_json_is_the_report_alone(calls: list[Any]) -> None:
    report = json.loads(lora_gen("audit", "mine", "--json").stdout)
    assert report["adapters"][0]["cosine"] == 0.25


def test_audit_of_a_generator_shows_rates_and_verdict(calls: list[Any]) -> None:
    result = lora_gen("audit", "--generator", "gen", "--tasks", 5, "--split", "seen")
    assert "novel and performant, seen, n=2" in result.stdout
    assert result.stdout.splitlines()[-1] == "It works."
    assert (calls[0]["generator"], calls[0]["tasks"], calls[0]["split"]) == ("gen", 5, "seen")


@pytest.mark.parametrize("arguments", [(), ("mine", "--generator", "gen")])
def test_audit_wants_adapters_or_a_generator(calls: list[Any], arguments: Any) -> None:
    result = lora_gen("audit", *arguments)
    assert result.exit_code == 2
    assert "Name adapters, or a generator with `--generator`, but not both." in result.stderr
    assert calls == []


def test_audit_draws_only_generators(calls: list[Any]) -> None:
    result = lora_gen("audit", "mine", "--figure", "a.svg")
    assert result.exit_code == 2
    assert "`--figure` draws a generator's audit." in result.stderr
