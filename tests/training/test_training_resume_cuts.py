"""What a resume must survive: cuts inside a step, and checkpoints that lack a part."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from training_factories import losses, register_toy, toy_recipe, train_toy, weight_hashes

from lora_gen.errors import CheckpointError, LockedError, StorageError
from lora_gen.files import atomic_write_json, sha256_file
from training.checkpoint import find_checkpoint
from training.lock import held
from training.loop import train
from training.toy_task import ToyTask

SECOND_EPOCH = 9
"""A micro-batch that is the second of step 5; the second epoch of the toy data holds it."""


class _Cut(ToyTask):
    """Does something to its own process at one micro-batch."""

    at, action = -1, staticmethod(lambda: None)

    def batch(self, index: int) -> dict[str, Tensor]:
        if index == self.at:
            self.action()
        return super().batch(index)


def _cut_at(monkeypatch: pytest.MonkeyPatch, index: int, action: Any) -> None:
    monkeypatch.setattr(_Cut, "at", index)
    monkeypatch.setattr(_Cut, "action", staticmethod(action))
    register_toy(monkeypatch, _Cut)


def _assert_equal(folder: Path, straight: Path) -> None:
    train_toy(straight)
    assert losses(folder) == losses(straight)
    assert weight_hashes(folder, 12) == weight_hashes(straight, 12)


@pytest.mark.parametrize("index", [SECOND_EPOCH, SECOND_EPOCH + 10])
def test_resume_equals_an_unbroken_run_when_killed_between_two_micro_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: int
) -> None:
    run = tmp_path / "run"
    _cut_at(monkeypatch, index, lambda: os._exit(9))
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        train_toy(run, "checkpoint.every=2")
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    monkeypatch.undo()
    found, _ = find_checkpoint(run)
    assert found == run / f"checkpoint-{index // 2 // 2 * 2}"
    assert train_toy(run, "checkpoint.every=2") == 12
    _assert_equal(run, tmp_path / "straight")


@pytest.mark.parametrize("index", [SECOND_EPOCH - 1, SECOND_EPOCH])
def test_resume_equals_an_unbroken_run_when_stopped_between_two_micro_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: int
) -> None:
    run = tmp_path / "run"
    _cut_at(monkeypatch, index, lambda: signal.raise_signal(signal.SIGTERM))
    assert train_toy(run) == 5  # the step that was under way is finished
    monkeypatch.undo()
    assert train_toy(run) == 12
    _assert_equal(run, tmp_path / "straight")


def _rewrite(path: Path, text: str) -> None:
    """Change one file of a checkpoint, and let its manifest say so."""
    path.write_text(text)
    manifest = json.loads((path.parent / "manifest.json").read_text())
    manifest["files"][path.name] = {"size": path.stat().st_size, "sha256": sha256_file(path)}
    del manifest["digest"]  # as the first manifests were
    atomic_write_json(path.parent / "manifest.json", manifest)


def _edit_state(folder: Path, **changes: Any) -> None:
    """Change keys of `state.json`; None removes one."""
    state = json.loads((folder / "state.json").read_text()) | changes
    kept = {key: value for key, value in state.items() if value is not None}
    _rewrite(folder / "state.json", json.dumps(kept))


def test_resume_refuses_a_checkpoint_without_random_state_and_force_accepts_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_toy(tmp_path, "max_steps=5")
    _edit_state(tmp_path / "checkpoint-5", processes=[{"meter": {}}])
    sentence = "belongs to another run: the random state of process 0 is missing. Undo the change"
    with pytest.raises(CheckpointError, match=re.escape(sentence)):
        train_toy(tmp_path)
    capsys.readouterr()
    assert train(toy_recipe(tmp_path), force=True) == 12
    assert "Forced: `" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["step", "batches_seen", "identity", "processes"])
def test_resume_refuses_a_checkpoint_without_one_of_its_counters(tmp_path: Path, name: str) -> None:
    train_toy(tmp_path, "max_steps=5")
    _edit_state(tmp_path / "checkpoint-5", **{name: None})
    with pytest.raises(CheckpointError, match=f"has no `{name}`, so it cannot be resumed"):
        train(toy_recipe(tmp_path), force=True)


def test_resume_on_more_processes_is_explained_and_forced_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train_toy(tmp_path, "max_steps=5")
    identity = json.loads((tmp_path / "checkpoint-5" / "state.json").read_text())["identity"]
    _edit_state(tmp_path / "checkpoint-5", identity={**identity, "num_processes": 2}, processes=[])
    sentence = "num_processes was 2 and is 1. Undo the change, name another `output_dir`, or accept"
    with pytest.raises(CheckpointError, match=re.escape(sentence)):
        train_toy(tmp_path)
    capsys.readouterr()
    assert train(toy_recipe(tmp_path), force=True) == 12
    assert "num_processes was 2 and is 1" in capsys.readouterr().err


def test_resume_explains_another_precision(tmp_path: Path) -> None:
    train_toy(tmp_path, "max_steps=5")
    path = tmp_path / "checkpoint-5" / "recipe.yaml"
    _rewrite(path, path.read_text().replace("mixed_precision: 'no'", "mixed_precision: bf16"))
    with pytest.raises(CheckpointError, match="mixed_precision was 'bf16' and is 'no'"):
        train_toy(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\0" * 14, b"checkpoint-99\n"])
def test_resume_does_not_trust_the_pointer_file(tmp_path: Path, content: bytes) -> None:
    train_toy(tmp_path, "max_steps=5")
    (tmp_path / "LATEST").write_bytes(content)
    assert train_toy(tmp_path) == 12
    assert (tmp_path / "LATEST").read_text() == "checkpoint-12\n"
    _assert_equal(tmp_path, tmp_path.parent / f"{tmp_path.name}-straight")


def test_train_folder_is_held_where_the_name_of_the_holder_does_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "ftruncate", refuse)
    with (
        held(tmp_path / "run"),
        pytest.raises(LockedError, match="is in use by process unknown"),
        held(tmp_path / "run"),
    ):
        raise AssertionError("held twice")
    with held(tmp_path / "run"):
        assert (tmp_path / "run" / ".lock").exists()


def test_train_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    sentence = r"file/run` cannot be written \(.*\)\. Name another `output_dir`\."
    with pytest.raises(StorageError, match=sentence), held(tmp_path / "file" / "run"):
        raise AssertionError("a file became a folder")
