"""A real Ray cluster of two nodes on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from job_functions import attempts

from lora_gen.jobs import run_jobs

pytestmark = pytest.mark.slow
ray = pytest.importorskip("ray")
TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def cluster() -> Iterator[object]:
    from ray.cluster_utils import Cluster

    os.environ["PYTHONPATH"] = f"{TESTS}:{TESTS.parent}"
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.add_node(num_cpus=1)
    ray.init(address=made.address, log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()


def test_two_nodes_share_the_jobs_and_a_killed_worker_costs_one_attempt(
    cluster: object, tmp_path: Path
) -> None:
    jobs = {str(i): {"number": i, "folder": str(tmp_path)} for i in range(5)}
    results = list(run_jobs("job_functions:node_of", jobs, executor="ray", workers=2))
    assert {r.error for r in results} == {None}
    assert len({r.value for r in results}) == 2
    assert [len(attempts(tmp_path, i)) for i in range(5)] == [1, 1, 2, 1, 1]
    assert ray.is_initialized()
