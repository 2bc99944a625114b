"""The audit of the pins: an accused package fails it, and silence is told apart from innocence."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _answer(name: str, *holes: str) -> dict[str, Any]:
    vulns = [{"id": hole, "fix_versions": ["2"], "aliases": [f"{hole}-b"]} for hole in holes]
    return {"name": name, "version": "1", "vulns": vulns}


def test_pins_without_holes_pass(audit: ModuleType) -> None:
    report = {"dependencies": [_answer("torch"), _answer("Hf_Gradio")]}
    assert audit.judge(report, {"torch", "hf-gradio"}, {}) == (
        0,
        "None of 2 pins has a known hole.",
    )


def test_accused_pin_fails_and_names_the_fix(audit: ModuleType) -> None:
    report = {"dependencies": [_answer("torch", "CVE-1")]}
    code, sentence = audit.judge(report, {"torch", "peft"}, {})
    assert (code, sentence) == (1, "Known holes: torch 1: CVE-1, fixed in 2. Raise the pins.")


@pytest.mark.parametrize("advisory", ["CVE-1", "CVE-1-b"])
def test_accepted_advisory_does_not_count(audit: ModuleType, advisory: str) -> None:
    report = {"dependencies": [_answer("torch", "CVE-1")]}
    assert audit.judge(report, {"torch"}, {advisory: "we never call it"})[0] == 0


@pytest.mark.parametrize(
    "report", [{}, {"dependencies": [{"name": "torch", "skip_reason": "not found on PyPI"}]}]
)
def test_silence_is_no_pass(audit: ModuleType, report: dict[str, Any]) -> None:
    code, sentence = audit.judge(report, {"torch"}, {})
    assert code == 3
    assert sentence.startswith("The vulnerability database did not answer for 1 of 1 pins (torch)")


def test_audit_without_its_tool_says_so(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(audit, "COMMAND", ("no-such-tool-here",))
    monkeypatch.setattr(sys, "argv", ["audit", str(ROOT / "constraints.txt")])
    assert audit.main() == 3
    assert capsys.readouterr().out.startswith("pip-audit did not run (")


def test_every_pin_is_asked_for(audit: ModuleType) -> None:
    found = audit.pins_of(ROOT / "constraints.txt")
    assert {"torch", "gradio", "hf-gradio"} <= found
