"""FSDP2 and two nodes: the same losses, checkpoints and artifacts as plain data parallelism."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from training_factories import HANG_SECONDS, ROOT, child, ended, environment, losses, recipe_file

EXACT: dict[str, Any] = {
    "max_steps": 6,
    "gradient_accumulation_steps": 1,
    "checkpoint": {"every": 3},
    "tracking": {"log_every": 1, "eval_every": 3},
    "task": {"name": "toy", "num_examples": 30, "dropout": 0.0},
}
WORKER = ROOT / "tests" / "training" / "sharded_worker.py"
TORCHRUN = ("-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone")


def _sharded(folder: Path, **changes: Any) -> str:
    recipe = recipe_file(folder, **{**EXACT, **changes})
    arguments = (str(WORKER), str(recipe), str(folder.parent), "Linear")
    with child(*arguments, launcher=TORCHRUN) as process:
        said = ended(process)
    assert process.returncode == 0, said
    return said


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output folder of a run on two gloo processes that each hold all weights."""
    folder = tmp_path_factory.mktemp("plain") / "run"
    with child(str(recipe_file(folder, **EXACT)), launcher=(*TORCHRUN, "-m", "training")) as run:
        said = ended(run)
    assert run.returncode == 0, said
    return folder


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output folder of the same run with each process holding a part."""
    folder = tmp_path_factory.mktemp("sharded") / "run"
    _sharded(folder)
    return folder


def test_sharded_processes_hold_half_of_the_weights_each(sharded: Path) -> None:
    for rank in (0, 1):
        report = json.loads((sharded.parent / f"{rank}.json").read_text())
        assert 0.3 < report["share"] < 0.7


def test_sharded_run_has_the_losses_of_the_plain_one(plain: Path, sharded: Path) -> None:
    assert dict(losses(sharded)) == pytest.approx(dict(losses(plain)), rel=1e-4)


def test_sharded_checkpoint_holds_whole_tensors(plain: Path, sharded: Path) -> None:
    for stem in ("model", "ema", "optimizer"):
        one, both = (
            load_file(folder / "checkpoint-6" / f"{stem}.safetensors")
            for folder in (plain, sharded)
        )
        torch.testing.assert_close(both, one, rtol=1e-3, atol=1e-5)


def test_sharded_run_writes_the_averaged_artifact(plain: Path, sharded: Path) -> None:
    one, both = (load_file(f / "final" / "model.safetensors") for f in (plain, sharded))
    torch.testing.assert_close(both, one, rtol=1e-3, atol=1e-5)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_two_nodes_by_torchrun_have_the_losses_of_one(plain: Path, tmp_path: Path) -> None:
    recipe = recipe_file(tmp_path / "run", **EXACT)
    meeting = ("--rdzv_backend", "c10d", "--rdzv_endpoint", f"127.0.0.1:{_free_port()}")
    launcher = ["-m", "torch.distributed.run", "--nnodes", "2", "--nproc_per_node", "1"]
    command = [sys.executable, *launcher, *meeting, "--rdzv_id", "run", "-m", "training"]
    env = {**environment(), "GLOO_SOCKET_IFNAME": "lo"}
    nodes = [
        subprocess.Popen([*command, str(recipe)], cwd=ROOT, env=env, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    said = [node.communicate(timeout=HANG_SECONDS)[1] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    assert dict(losses(tmp_path / "run")) == pytest.approx(dict(losses(plain)), rel=1e-6)
    state = json.loads((tmp_path / "run" / "checkpoint-6" / "state.json").read_text())
    assert len(state["processes"]) == 2


def test_sharded_run_resumes_where_it_was(sharded: Path) -> None:
    path = sharded / "checkpoint-6" / "model.safetensors"
    unbroken = load_file(path)
    shutil.rmtree(path.parent)
    assert "checkpoint-3` at step 3" in _sharded(sharded)
    torch.testing.assert_close(load_file(path), unbroken, rtol=1e-6, atol=1e-7)
