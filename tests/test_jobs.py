from __future__ import annotations

from pathlib import Path

import pytest
from job_functions import attempts

from lora_gen.errors import ConfigError
from lora_gen.jobs import JobResult, run_jobs


def _run(name: str, folder: Path, **options: object) -> dict[str, JobResult]:
    jobs = {str(i): {"number": i, "folder": str(folder)} for i in range(5)}
    return {r.name: r for r in run_jobs(f"job_functions:{name}", jobs, **options)}  # type: ignore[arg-type]


def _tried(folder: Path) -> list[int]:
    return [len(attempts(folder, i)) for i in range(5)]


def test_every_job_runs_once_and_returns(tmp_path):
    results = _run("square", tmp_path, workers=2)
    assert {int(name): r.value for name, r in results.items()} == {i: i * i for i in range(5)}
    assert _tried(tmp_path) == [1] * 5


def test_killed_worker_costs_one_attempt_of_one_job(tmp_path):
    results = _run("killed_once", tmp_path, workers=2)
    assert {int(name): r.value for name, r in results.items()} == {i: i * i for i in range(5)}
    assert _tried(tmp_path) == [1, 1, 2, 1, 1]
    assert results["2"].attempts == 2


def test_job_that_always_kills_its_worker_fails_alone(tmp_path):
    results = _run("always_killed", tmp_path, workers=2, attempts=2)
    assert results["2"].error == "Its worker died (-9)."
    assert [r.value for _, r in sorted(results.items())] == [0, 1, None, 9, 16]
    assert _tried(tmp_path) == [1, 1, 2, 1, 1]


def test_our_own_errors_are_not_tried_again(tmp_path):
    results = _run("refuses", tmp_path)
    assert results["0"].error == "`number` is not welcome. Pass another."
    assert _tried(tmp_path) == [1] * 5


def test_other_errors_are_tried_again(tmp_path):
    results = _run("breaks", tmp_path, attempts=2)
    assert results["0"].error == "OSError: out of luck"
    assert _tried(tmp_path) == [2] * 5


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"executor": "slurm"}, "`executor` is 'slurm', but must be one of local, ray"),
        ({"workers": 0}, "`workers` is 0, but must be at least 1"),
        ({"attempts": 0}, "`attempts` is 0, but must be at least 1"),
    ],
)
def test_jobs_refuse_impossible_options(tmp_path, options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        _run("square", tmp_path, **options)
