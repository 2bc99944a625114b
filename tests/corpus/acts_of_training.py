"""F09 and F13 in training: memory ends, the loss is not finite, an adapter cannot be read."""

from __future__ import annotations

import resource
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from lora_gen.errors import LoraGenError
from lora_gen.zoo.store import Zoo
from tests.corpus.acts_of_disk import at_most
from tests.corpus.case import ACT, OK, add
from tests.corpus.guard import address_space
from tests.corpus.runs import toy_recipe
from training.behavior_data import ZooTokens
from training.checkpoint import find_checkpoint
from training.loop import train
from training.tasks import TASKS
from training.toy_task import ToyConfig, ToyTask

GOOD_STEPS = 2


class _Bad(ToyTask):
    """Learns for two steps; what then happens is the subclass's matter."""

    def loss(
        self, model: nn.Module, batch: Any, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        loss, values = super().loss(model, batch, generator)
        return (self.spoil(loss) if batch["index"] >= GOOD_STEPS else loss), values

    def batch(self, index: int) -> dict[str, Any]:
        return {**super().batch(index), "index": index}

    def spoil(self, loss: Tensor) -> Tensor:
        return loss * float("nan")


class _Overflowing(_Bad):
    def spoil(self, loss: Tensor) -> Tensor:
        return loss * 1e38 * 1e38


class _Hungry(_Bad):
    def spoil(self, loss: Tensor) -> Tensor:
        return loss + torch.ones(50_000_000).mean()


@contextmanager
def toy_is(task: type[ToyTask]) -> Iterator[None]:
    """Let `task.name: toy` mean another class."""
    kept, TASKS["toy"] = TASKS["toy"], lambda: (ToyConfig, task)
    try:
        yield
    finally:
        TASKS["toy"] = kept


def _stopped(place: Path, task: type[ToyTask], **changes: Any) -> None:
    """Train until it stops; the last good checkpoint has to be there, and to be resumed."""
    try:
        with toy_is(task):
            train(toy_recipe(place / "run", 6, **changes))
    except LoraGenError:
        found, skipped = find_checkpoint(place / "run")
        assert found is not None
        assert (found.name, skipped) == (f"checkpoint-{GOOD_STEPS}", [])
        assert train(toy_recipe(place / "run", 3)) == 3
        raise


def loss_is_nan(place: Path) -> None:
    _stopped(place, _Bad)


def loss_overflows(place: Path) -> None:
    _stopped(place, _Overflowing)


def bad_steps_are_skipped(place: Path) -> None:
    with toy_is(_Bad):
        assert train(toy_recipe(place / "run", 6, skip_bad_steps=4)) == 6
    found, _ = find_checkpoint(place / "run")
    assert found is not None
    assert found.name == "checkpoint-6"


def memory_ends(place: Path) -> None:
    train(toy_recipe(place / "warm", 1))
    with at_most(resource.RLIMIT_AS, address_space() + 100_000_000):
        _stopped(place, _Hungry)


def bad_item(place: Path) -> None:
    """One adapter of the zoo was damaged while nobody looked."""
    from zoo_factories import fill_zoo

    fill_zoo(place / "zoo", 3)
    with Zoo.open(place / "zoo") as zoo:
        bad = zoo.entries()[1]
        weights = zoo.folders.path_of(bad.id) / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    try:
        _tokens(place)
    except LoraGenError:
        with Zoo.open(place / "zoo", read_only=True) as zoo:
            assert "training could not read it" in zoo.guard.quarantined()[bad.id]
            assert len(zoo.entries()) == 2
        assert len(_tokens(place).rows) == 2
        raise


def _tokens(place: Path) -> ZooTokens:
    layout = SimpleNamespace(num_tokens=1, width=1)
    codec: Any = SimpleNamespace(layout=layout, scaling="", encode=lambda adapter: torch.ones(1, 2))
    with Zoo.open(place / "zoo", read_only=True) as zoo:
        return ZooTokens(zoo, codec, [entry.task for entry in zoo.entries()], place / "cache")


T = "TRAIN"
add("F09", "train", lambda folder: memory_ends, "BUSY", "`train` needs more", entrances=ACT)
add("F13", "nan", lambda folder: loss_is_nan, T, "`checkpoint-2` is kept", entrances=ACT)
add("F13", "overflow", lambda folder: loss_overflows, T, "`checkpoint-2` is", entrances=ACT)
add("F13", "skipped", lambda folder: bad_steps_are_skipped, OK, entrances=ACT)
add("F13", "bad-item", lambda folder: bad_item, "STORE", "in quarantine now", entrances=ACT)
