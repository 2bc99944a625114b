"""The corpus of hostile inputs, each case at each entrance, judged by one oracle."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tests.corpus.child  # registers the cases
from tests.corpus.case import CASES
from tests.corpus.elsewhere import ELSEWHERE, NUMBERS
from tests.corpus.entrances import Entrances

ROOT = Path(__file__).parents[2]
PAIRS = [(case.id, entrance) for case in CASES.values() for entrance in case.entrances]


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], dict[str, Any]]:
    """What the child process found; where it died, the rest is missing."""
    sandbox = tmp_path_factory.mktemp("corpus") / "sandbox"
    command = [sys.executable, "-m", tests.corpus.child.__name__, str(sandbox)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode:
        pytest.fail(
            f"the child ended with {done.returncode} after {found[-1:]}: {done.stderr[-2000:]}"
        )
    return {(finding["case"], finding["entrance"]): finding for finding in found}


@pytest.mark.parametrize(("case", "entrance"), PAIRS, ids=[f"{c}-{e}" for c, e in PAIRS])
def test_hostile_input_is_refused_and_harms_nothing(
    findings: dict[tuple[str, str], dict[str, Any]], case: str, entrance: str
) -> None:
    assert findings[case, entrance]["failures"] == []


def test_every_number_is_judged() -> None:
    here = {case.number for case in CASES.values()} & NUMBERS
    assert len(NUMBERS) == 98
    assert sorted(NUMBERS - here - set(ELSEWHERE)) == []


def test_every_entrance_is_tried() -> None:
    entrances = {name for case in CASES.values() for name in case.entrances}
    ways = {name.removeprefix("_") for name in dir(Entrances) if hasattr(Entrances, name)}
    assert entrances <= ways
    assert entrances >= {"load", "inspect", "archive", "upload", "zoo_add", "index", "resume"}


@pytest.mark.parametrize("name", sorted({name for names in ELSEWHERE.values() for name in names}))
def test_tests_that_judge_a_case_elsewhere_run_by_default(name: str) -> None:
    path, _, function = name.partition("::")
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    (found,) = (n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == function)
    marks = [ast.unparse(mark) for mark in found.decorator_list]
    marks += [ast.unparse(n) for n in tree.body if "pytestmark" in ast.unparse(n)[:12]]
    assert not any(word in mark for mark in marks for word in ("browser", "mark.skip(", "xfail"))
