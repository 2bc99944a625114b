"""A real Ray cluster of two nodes on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from generator_factories import base_adapter, byte_base, task_pairs, task_zoo
from job_functions import Here, KilledOnce, attempts

from lora_gen.adapter.io import save_adapter
from lora_gen.evaluation.bulk import BulkVectorizer, adapters_with_tests, evaluate_adapters
from lora_gen.jobs import run_jobs
from lora_gen.retrieval.search import AdapterIndex

pytestmark = pytest.mark.slow
ray = pytest.importorskip("ray")


def test_two_nodes_share_the_jobs_and_a_killed_worker_costs_one_attempt(
    cluster: object, tmp_path: Path
) -> None:
    jobs = {str(i): {"number": i, "folder": str(tmp_path)} for i in range(5)}
    results = list(run_jobs("job_functions:node_of", jobs, executor="ray", workers=2))
    assert {r.error for r in results} == {None}
    assert len({r.value for r in results}) == 2
    assert [len(attempts(tmp_path, i)) for i in range(5)] == [1, 1, 2, 1, 1]
    assert ray.is_initialized()


def test_bulk_evaluation_on_two_nodes_survives_a_killed_worker(
    cluster: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lora_gen.evaluation.bulk.CHUNK", 1)
    base = byte_base(tmp_path / "base")
    names = ("upper", "lower", "reverse")
    for seed, name in enumerate(names):
        save_adapter(base_adapter(base, seed), tmp_path / "made" / name, exact=True)
    tests = {name: task_pairs(name, 20, 4) for name in names}
    found = adapters_with_tests(tmp_path / "made", tests)
    jobs = KilledOnce(executor="ray", workers=2, marks=str(tmp_path))
    on_ray, here = (
        dict(evaluate_adapters(found, base=str(base), out=tmp_path / out, options=options))
        for out, options in (("ray", jobs), ("here", Here()))
    )
    assert on_ray == here
    assert [len(attempts(tmp_path, i)) for i in range(3)] == [2, 1, 1]


def test_bulk_encoding_on_two_nodes_fills_the_index(
    cluster: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lora_gen.evaluation.bulk._ENCODED", 2)
    zoo = task_zoo(tmp_path / "zoo", byte_base(tmp_path / "base"))
    jobs = BulkVectorizer(KilledOnce(executor="ray", workers=2, marks=str(tmp_path)))
    with AdapterIndex.open(zoo, folder=tmp_path / "index", vectorizer=jobs) as index:
        hits = index.search("make it upper", top=1)
    assert hits[0].entry.task == "upper"
    assert [len(attempts(tmp_path, i)) for i in range(2)] == [2, 1]
