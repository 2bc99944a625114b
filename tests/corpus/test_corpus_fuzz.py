"""A few seconds of the fuzzer, and that a mutant's number makes it again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.corpus.mutations import mutant, samples

ROOT = Path(__file__).parents[2]


def test_mutants_are_accepted_whole_or_refused_in_one_sentence() -> None:
    command = [sys.executable, "-m", "tests.corpus.fuzz", "--mutants", "4000", "--seed", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    report = json.loads(done.stdout)
    assert report["failures"] == []
    assert report["mutants"] == 4000
    assert len(report["by_code"]) > 4, "the mutants reach too little of the readers"
    assert done.returncode == 0


def test_a_number_makes_the_same_mutant_again() -> None:
    made = [mutant(3, number, samples()) for number in range(200)]
    assert made == [mutant(3, number, samples()) for number in range(200)]
    assert len({(m.sample.name, m.file, m.data) for m in made}) > 150
