from __future__ import annotations

import json
import re
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from training_factories import (
    flip_bit,
    losses,
    register_toy,
    toy_recipe,
    train_toy,
    weight_hashes,
)

from lora_gen.errors import CheckpointError, LockedError, StorageError
from training.checkpoint import find_checkpoint
from training.config import EmaConfig, OptimizerConfig
from training.ema import Ema
from training.lock import held
from training.loop import train
from training.optimizer import build_optimizer
from training.state import TrainState
from training.toy_task import ToyTask

FILES = ["ema", "manifest", "model", "optimizer", "recipe", "state"]


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("checkpoint-*"))


def test_checkpoint_holds_safetensors_json_and_yaml_only(tmp_path: Path) -> None:
    train_toy(tmp_path)
    files = list((tmp_path / "checkpoint-12").iterdir())
    assert sorted(path.stem for path in files) == FILES
    assert {path.suffix for path in files} == {".safetensors", ".json", ".yaml"}
    assert not any(path.read_bytes()[:2] == b"\x80\x04" for path in files)


def test_checkpoint_latest_names_the_newest_and_older_ones_are_pruned(tmp_path: Path) -> None:
    train_toy(tmp_path, "checkpoint.every=3", "checkpoint.keep=3")
    assert _names(tmp_path) == ["checkpoint-12", "checkpoint-6", "checkpoint-9"]
    assert (tmp_path / "LATEST").read_text() == "checkpoint-12\n"


def test_checkpoint_pruning_does_not_count_damaged_ones(tmp_path: Path) -> None:
    train_toy(tmp_path, "max_steps=4", "checkpoint.every=2")
    flip_bit(tmp_path / "checkpoint-4" / "model.safetensors")
    train_toy(tmp_path, "max_steps=6", "checkpoint.every=3")
    intact = [find_checkpoint(tmp_path)[0], *(tmp_path / n for n in _names(tmp_path)[:2])]
    assert _names(tmp_path) == ["checkpoint-3", "checkpoint-4", "checkpoint-6"]
    assert intact[0] == tmp_path / "checkpoint-6"


@pytest.mark.parametrize("name", [f"{s}.safetensors" for s in ("model", "ema", "optimizer")])
def test_resume_falls_back_from_a_damaged_checkpoint_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    train_toy(tmp_path)
    before = losses(tmp_path), weight_hashes(tmp_path, 12)
    flip_bit(tmp_path / "checkpoint-12" / name)
    capsys.readouterr()
    train_toy(tmp_path)
    said = capsys.readouterr().err
    assert f"Skipped `checkpoint-12`: `{name}` in `" in said
    assert f"Resumed `{tmp_path / 'checkpoint-10'}` at step 10." in said
    assert (losses(tmp_path), weight_hashes(tmp_path, 12)) == before


@pytest.mark.parametrize("damage", ["no manifest", "zero bytes", "file missing", "stray file"])
def test_find_checkpoint_takes_no_folder_without_a_valid_manifest(
    tmp_path: Path, damage: str
) -> None:
    train_toy(tmp_path)
    newest = tmp_path / "checkpoint-12"
    if damage == "no manifest":
        (newest / "manifest.json").unlink()
    elif damage == "zero bytes":
        (newest / "manifest.json").write_bytes(b"")
    elif damage == "file missing":
        (newest / "ema.safetensors").unlink()
    else:
        (newest / "model.bin").write_bytes(b"\x80\x04")
    folder, skipped = find_checkpoint(tmp_path)
    assert folder == tmp_path / "checkpoint-10"
    assert [text.split(":")[0] for text in skipped] == ["Skipped `checkpoint-12`"]
    assert train_toy(tmp_path) == 12
    assert find_checkpoint(tmp_path) == (newest, [])


def test_resume_starts_anew_when_every_checkpoint_is_damaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_toy(tmp_path)
    before = losses(tmp_path)
    for name in _names(tmp_path):
        flip_bit(tmp_path / name / "model.safetensors")
    train_toy(tmp_path)
    assert losses(tmp_path) == before
    assert "Skipped `checkpoint-10`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "difference"),
    [
        ("seed=1", "seed was 0 and is 1"),
        ("batch_size=8", "batch_size was 4 and is 8"),
        ("optimizer.lr=0.5", "optimizer.lr was 0.01 and is 0.5"),
        ("task.dropout=0", "task.dropout was 0.1 and is 0.0"),
        ("ema.decay=0.5", "ema.decay was 0.999 and is 0.5"),
    ],
)
def test_resume_refuses_another_recipe_and_force_accepts_it(
    tmp_path: Path, override: str, difference: str
) -> None:
    train_toy(tmp_path, "max_steps=5")
    sentence = f"`{tmp_path / 'checkpoint-5'}` belongs to another run: .*{re.escape(difference)}"
    with pytest.raises(CheckpointError, match=sentence):
        train_toy(tmp_path, override)
    assert train(toy_recipe(tmp_path, override), force=True) == 12


@pytest.mark.parametrize(
    ("name", "value"), [("num_processes", 4), ("lora_gen", "0.0.1"), ("torch", "1.0")]
)
def test_resume_refuses_other_code_or_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: Any
) -> None:
    train_toy(tmp_path, "max_steps=5")
    from training import build

    make = build.Identity
    monkeypatch.setattr(build, "Identity", lambda *a: make(**{**vars(make(*a)), name: value}))
    sentence = f"belongs to another run: {name} was .* and is {value!r}. Undo the change, name "
    with pytest.raises(CheckpointError, match=sentence):
        train_toy(tmp_path)
    assert train(toy_recipe(tmp_path), force=True) == 12


def test_resume_refuses_other_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(ToyTask):
        def fingerprint(self) -> str:
            return "other"

    train_toy(tmp_path, "max_steps=5")
    register_toy(monkeypatch, Other)
    with pytest.raises(CheckpointError, match=r"fingerprint was '[0-9a-f]{64}' and is 'other'"):
        train_toy(tmp_path)


def test_resume_refuses_other_shapes_even_when_forced(tmp_path: Path) -> None:
    train_toy(tmp_path, "max_steps=5")
    sentence = "`0.bias` is (16,) in the checkpoint's model, but (4,) in the recipe's model."
    with pytest.raises(CheckpointError, match=re.escape(sentence)):
        train(toy_recipe(tmp_path, "task.hidden_dim=4"), force=True)


@pytest.mark.parametrize("override", ["tracking.log_every=3", "checkpoint.keep=4", "threads=1"])
def test_resume_accepts_what_does_not_touch_the_weights(tmp_path: Path, override: str) -> None:
    train_toy(tmp_path, "max_steps=5")
    assert train_toy(tmp_path, override) == 12


def test_resume_refuses_more_steps_of_a_cosine(tmp_path: Path) -> None:
    train_toy(tmp_path, "max_steps=5", "lr_scheduler.schedule=cosine")
    with pytest.raises(CheckpointError, match="max_steps was 5 and is 12"):
        train_toy(tmp_path, "lr_scheduler.schedule=cosine")


def test_checkpoint_refuses_a_full_disk_and_keeps_the_older_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_toy(tmp_path, "max_steps=5")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**6, 10**6, 1000))
    sentence = f"`{tmp_path}` has 0 MiB free, but a checkpoint needs 0 MiB. Free space and start"
    with pytest.raises(StorageError, match=re.escape(sentence)):
        train_toy(tmp_path)
    assert find_checkpoint(tmp_path) == (tmp_path / "checkpoint-5", [])


def test_train_removes_what_a_killed_process_left(tmp_path: Path) -> None:
    (tmp_path / ".tmp-123").mkdir()
    (tmp_path / ".tmp-123" / "model.safetensors").write_bytes(b"half")
    train_toy(tmp_path)
    assert not list(tmp_path.glob(".tmp-*"))


def test_train_refuses_a_folder_that_another_run_holds(tmp_path: Path) -> None:
    sentence = f"`{tmp_path}` is in use by process "
    with held(tmp_path), pytest.raises(LockedError, match=re.escape(sentence)):
        train_toy(tmp_path)


def test_train_log_drops_half_a_line_and_steps_that_are_run_again(tmp_path: Path) -> None:
    train_toy(tmp_path)
    before = losses(tmp_path)
    shutil.rmtree(tmp_path / "checkpoint-12")
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 13, "lo')
    train_toy(tmp_path)
    assert losses(tmp_path) == before
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 13))


class _Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.register_buffer("kept", torch.zeros(2))
        self.register_buffer("derived", torch.zeros(2), persistent=False)


def _state(seed: int) -> TrainState:
    torch.manual_seed(seed)
    model = _Tied()
    optimizer = build_optimizer(model, OptimizerConfig())
    (model.first(torch.ones(1, 3)) + model.second(torch.ones(1, 3))).sum().backward()
    optimizer.step()
    return TrainState(model=model, optimizer=optimizer, ema=Ema(model, EmaConfig()))


def test_state_tensors_hold_tied_weights_once_and_persistent_buffers() -> None:
    groups = _state(0).tensors()
    assert set(groups["model"]) == {"first.weight", "first.bias", "second.bias", "kept"}
    assert set(groups["ema"]) == {"first.weight", "first.bias", "second.bias"}


def test_state_load_tensors_makes_states_equal() -> None:
    source, target = _state(0), _state(1)
    saved = {s: {n: t.clone() for n, t in g.items()} for s, g in source.tensors().items()}
    target.load_tensors(saved)
    for stem, tensors in target.tensors().items():
        torch.testing.assert_close(tensors, saved[stem], rtol=0, atol=0)


def test_checkpoints_remember_what_an_earlier_start_learned_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Derived(ToyTask):
        def parents(self) -> list[str]:
            return ["zoo:forgotten"]

    register_toy(monkeypatch, Derived)
    train_toy(tmp_path, "max_steps=5")
    register_toy(monkeypatch, ToyTask)
    train_toy(tmp_path)
    for name in ("checkpoint-12", "final"):  # the first one is pruned
        manifest = json.loads((tmp_path / name / "manifest.json").read_text())
        assert manifest["parents"] == ["zoo:forgotten"]
