from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from training_factories import ROOT, child, ended, losses, recipe_file, train_toy

from lora_gen.errors import CheckpointError

EXACT: dict[str, Any] = {
    "max_steps": 6,
    "checkpoint": {"every": 3},
    "task": {"name": "toy", "num_examples": 30, "dropout": 0.0},
}
WORKER = ROOT / "tests" / "training" / "two_process_worker.py"
TORCHRUN = ("-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output folder of a run on two gloo processes, with a report of each beside it."""
    folder = tmp_path_factory.mktemp("two") / "run"
    recipe = recipe_file(folder, gradient_accumulation_steps=1, **EXACT)
    with child(str(WORKER), str(recipe), str(folder.parent), launcher=TORCHRUN) as process:
        said = ended(process)
    assert process.returncode == 0, said
    return folder


def _reports(two: Path) -> list[dict[str, Any]]:
    return [json.loads((two.parent / f"{rank}.json").read_text()) for rank in (0, 1)]


def test_two_processes_are_two_and_share_the_batches(two: Path) -> None:
    first, second = _reports(two)
    assert first["num_processes"] == second["num_processes"] == 2
    assert first["seen"] == [0, 2, 4, 6, 8, 10]
    assert second["seen"] == [1, 3, 5, 7, 9, 11]


def test_two_processes_end_with_equal_weights(two: Path) -> None:
    first, second = _reports(two)
    assert first["weights"] == second["weights"]


def test_two_processes_average_gradients_as_two_micro_batches_do(two: Path, tmp_path: Path) -> None:
    train_toy(tmp_path, gradient_accumulation_steps=2, **EXACT)
    one = load_file(tmp_path / "checkpoint-6" / "model.safetensors")
    both = load_file(two / "checkpoint-6" / "model.safetensors")
    torch.testing.assert_close(both, one, rtol=1e-4, atol=1e-6)
    assert dict(losses(two)) == pytest.approx(dict(losses(tmp_path)), rel=1e-4)


def test_two_processes_checkpoint_holds_random_state_of_both(two: Path) -> None:
    state = json.loads((two / "checkpoint-6" / "state.json").read_text())
    first, second = state["processes"]
    assert first["random"]["torch"] != second["random"]["torch"]
    assert state["batches_seen"] == 12


def test_resume_refuses_another_number_of_processes(two: Path) -> None:
    sentence = "belongs to another run: num_processes was 2 and is 1. Undo the change"
    with pytest.raises(CheckpointError, match=re.escape(sentence)):
        train_toy(two, gradient_accumulation_steps=1, **{**EXACT, "max_steps": 8})
