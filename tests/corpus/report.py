"""`python -m tests.corpus.report --out docs/safety/corpus.json`: how many numbers pass, measured.

A number passes when the oracle is content with every one of its inputs at every entrance, and
when every test that judges it elsewhere passes. The exit code is 1 when one does not.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import tests.corpus.child  # registers the cases
from tests.corpus.case import CASES
from tests.corpus.elsewhere import ELSEWHERE, NUMBERS
from tests.crash.report import finish, machine

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def judged(folder: Path) -> list[dict[str, Any]]:
    """The findings of a child process on the whole corpus; one that died ends the list."""
    command = [sys.executable, "-m", tests.corpus.child.__name__, str(folder / "sandbox")]
    done = subprocess.run(
        command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def failing_elsewhere(folder: Path) -> set[str]:
    """Names of the tests elsewhere that did not pass."""
    names = sorted({name for names in ELSEWHERE.values() for name in names})
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", *names]
    done = subprocess.run(
        command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    passed = re.findall(r"^PASSED (\S+?)(?:\[.*)?$", done.stdout, re.MULTILINE)
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+?)(?:\[.*)?(?: - .*)?$", done.stdout, re.MULTILINE)
    return (set(names) - set(passed)) | (set(names) & set(failed))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=None, help="Where to write the JSON report.")
    options = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        where = machine(Path(name))
        findings = judged(Path(name))
        failing = failing_elsewhere(Path(name))
    expected = {(case.id, entrance) for case in CASES.values() for entrance in case.entrances}
    content = {(f["case"], f["entrance"]) for f in findings if not f["failures"]}
    bad = {CASES[case].number for case, _ in expected - content}
    bad |= {number for number, names in ELSEWHERE.items() if failing & set(names)}
    report = {
        "ok": not bad,
        "passed": len(NUMBERS - bad),
        "cases": len(NUMBERS),
        "inputs": len(CASES),
        "judgments": len(expected),
        "entrances": len({entrance for _, entrance in expected}),
        "tests_elsewhere": len({name for names in ELSEWHERE.values() for name in names}),
        "failing": sorted(bad & NUMBERS),
        "seconds": round(time.perf_counter() - began, 1),
        "machine": where,
    }
    return finish(report, options.out)


if __name__ == "__main__":
    sys.exit(main())
