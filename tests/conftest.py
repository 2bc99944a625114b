"""What every test needs: no network, no progress bars in the captured output, no wall-clock."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# huggingface_hub and transformers read these once, at import: set before the first import.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

# A busy machine is no failure of the code, and a deadline would say it is.
settings.register_profile("lora_gen", deadline=None)
settings.load_profile("lora_gen")


@pytest.fixture(scope="session")
def cluster() -> Iterator[object]:
    """A real Ray cluster of two nodes on this machine, one processor each, and joined."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    tests = Path(__file__).parent
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = f"{tests}:{tests.parent}"
    # Ray's workers give way to every other process: on a busy machine they would never come.
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  # as Ray spells it
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.add_node(num_cpus=1)
    ray.init(address=made.address, log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before
