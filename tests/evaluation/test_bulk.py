"""Many adapters as jobs: what they give, what is kept, and what a killed worker costs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from generator_factories import base_adapter, byte_base, task_pairs, task_zoo
from job_functions import Here, KilledOnce, attempts
from retrieval_factories import BagOfWords, searchable_zoo

from lora_gen.adapter.io import save_adapter
from lora_gen.errors import ConfigError
from lora_gen.evaluation.bulk import (
    BulkVectorizer,
    adapters_with_tests,
    encode_entries,
    evaluate_adapters,
    measure_adapters,
)
from lora_gen.jobs import JobOptions, JobResult
from lora_gen.retrieval.search import AdapterIndex

NAMES = ("upper", "lower", "reverse")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return byte_base(tmp_path_factory.mktemp("world") / "base")


@pytest.fixture(scope="module")
def folder(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One adapter folder a task."""
    made = tmp_path_factory.mktemp("adapters")
    for seed, name in enumerate(NAMES):
        save_adapter(base_adapter(base, seed), made / name, exact=True)
    return made


TESTS = {name: task_pairs(name, 20, 4) for name in (*NAMES, "title")}


def _measured(folder: Path, base: Path, out: Path, options: JobOptions | None = None) -> Any:
    found = adapters_with_tests(folder, TESTS)
    run = evaluate_adapters(found, base=str(base), out=out, options=options or Here(), inputs=4)
    return dict(run)


def test_adapters_of_a_folder_are_those_with_tests(folder: Path) -> None:
    assert set(adapters_with_tests(folder, TESTS)) == set(NAMES)


def test_adapters_of_a_zoo_bring_their_own_tests(base: Path, tmp_path: Path) -> None:
    found = adapters_with_tests(task_zoo(tmp_path / "zoo", base), None)
    assert {tests[0] for _, tests in found.values()} == {TESTS[name][0] for name in TESTS}


def test_folder_without_adapters_of_the_tasks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no folder that is named like a task with `tests`"):
        adapters_with_tests(tmp_path, TESTS)


def test_adapters_measured_together_score_as_alone(folder: Path, base: Path) -> None:
    asked = {n: (str(folder / n), TESTS[n]) for n in NAMES}
    together = measure_adapters(asked, str(base))
    alone = {n: measure_adapters({n: asked[n]}, str(base))[n] for n in NAMES}
    assert together == alone


def test_broken_adapter_fails_alone(folder: Path, base: Path, tmp_path: Path) -> None:
    asked = {
        "upper": (str(folder / "upper"), TESTS["upper"]),
        "no": (str(tmp_path), TESTS["upper"]),
    }
    rows = measure_adapters(asked, str(base))
    assert "accuracy" in rows["upper"]
    assert set(rows["no"]) == {"error"}


class Stopped(Here):
    """A run that is stopped after its first job."""

    def run(self, function: str, jobs: Any) -> Iterator[JobResult]:
        yield next(super().run(function, jobs))


def test_measuring_goes_on_where_it_stopped(
    folder: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lora_gen.evaluation.bulk.CHUNK", 1)
    first = _measured(folder, base, tmp_path / "out", Stopped())
    second = _measured(folder, base, tmp_path / "out")
    assert [*first, *second] == list(NAMES)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert set(report["adapters"]) == set(NAMES)
    assert report["accuracy"]["low"] <= report["accuracy"]["value"]


def test_measurements_of_another_base_are_not_mixed(
    folder: Path, base: Path, tmp_path: Path
) -> None:
    _measured(folder, base, tmp_path)
    with pytest.raises(ConfigError, match=r"holds measurements with .* Name another"):
        _measured(folder, base.parent, tmp_path)


def test_failed_job_is_reported_and_tried_again_later(
    folder: Path, base: Path, tmp_path: Path
) -> None:
    class Fails(Here):
        def run(self, function: str, jobs: Any) -> Iterator[JobResult]:
            yield from (JobResult(name=name, error="Its worker died (-9).") for name in jobs)

    assert _measured(folder, base, tmp_path, Fails())["upper"] == {"error": "Its worker died (-9)."}
    assert set(_measured(folder, base, tmp_path)) == set(NAMES)


class _Bags(BulkVectorizer, BagOfWords):
    """Jobs whose text encoder is a hash."""


def test_index_filled_by_jobs_is_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    searchable_zoo(tmp_path / "zoo")
    monkeypatch.setattr("lora_gen.evaluation.bulk._vectorizer", lambda _: BagOfWords())
    monkeypatch.setattr("lora_gen.evaluation.bulk._ENCODED", 3)
    done: list[int] = []
    jobs = _Bags(Here(), progress=done.append)
    with (
        AdapterIndex.open(tmp_path / "zoo", folder=tmp_path / "a", vectorizer=jobs) as bulk,
        AdapterIndex.open(tmp_path / "zoo", folder=tmp_path / "b", vectorizer=BagOfWords()) as one,
    ):
        for text in ("reverse the word", "only digits"):
            hits, expected = (index.search(text) for index in (bulk, one))
            assert [(h.entry.id, h.score) for h in hits] == [
                (h.entry.id, h.score) for h in expected
            ]
    assert done == [3, 1]


@pytest.mark.slow
def test_killed_worker_costs_one_attempt_of_one_measurement(
    folder: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lora_gen.evaluation.bulk.CHUNK", 1)
    rows = _measured(folder, base, tmp_path / "out", KilledOnce(workers=2, marks=str(tmp_path)))
    assert rows == _measured(folder, base, tmp_path / "here")
    assert [len(attempts(tmp_path, i)) for i in range(3)] == [2, 1, 1]


def test_entries_that_are_gone_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = searchable_zoo(tmp_path / "zoo")
    monkeypatch.setattr("lora_gen.evaluation.bulk._vectorizer", lambda _: BagOfWords())
    rows, failed = encode_entries(str(tmp_path / "zoo"), [ids[0], "0" * 40], None)
    assert ([row.id for row in rows], failed) == ([ids[0]], ["0" * 40])
