"""The operations that must leave the old state or the new one: how to begin, do and judge each."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from zoo_factories import fill_zoo, zoo_adapter, zoo_info

from lora_gen.adapter.io import load_adapter, save_adapter
from lora_gen.durable_folders import restore_aside
from lora_gen.zoo.store import Zoo
from tests.crash.old_catalog import make_old_zoo
from training.checkpoint import Identity, find_checkpoint, load_state, save_checkpoint
from training.config import EmaConfig, OptimizerConfig
from training.ema import Ema
from training.optimizer import build_optimizer
from training.state import TrainState


@dataclass(frozen=True)
class Operation:
    """A change to a folder, with what it begins from and what may be found after a crash."""

    prepare: object
    """(folder): make what the operation begins from."""
    run: object
    """(folder, acknowledge): do it, and call `acknowledge(label)` for each thing that is done."""
    judge: object
    """(folder, acknowledged): recover, check that nothing is half, and say what is there."""
    outcomes: tuple
    """What may be there: first the old state, last the new one."""
    exchange: bool = True
    """Whether the system can exchange two names in one step."""
    ends_late: bool = False
    """Whether it may be refused after the new state is there: a checkpoint moves its pointer."""


def adapter_of(folder):
    """Which of the two test adapters a folder holds."""
    found = load_adapter(folder)
    first = next(iter(found.pairs))
    known = {seed: zoo_adapter(seed).pairs[first].lora_a for seed in (1, 2)}
    (seed,) = (s for s, lora_a in known.items() if torch.equal(found.pairs[first].lora_a, lora_a))
    return f"adapter {seed}"


def save_new(folder, acknowledge):
    save_adapter(zoo_adapter(1), folder / "new" / "out", exact=True)
    acknowledge("adapter 1")


def save_over(folder, acknowledge):
    save_adapter(zoo_adapter(2), folder / "out", exact=True, overwrite=True)
    acknowledge("adapter 2")


def judge_output(folder, acknowledged):
    out = folder / "new" / "out" if (folder / "new").is_dir() else folder / "out"
    restore_aside(out)
    found = adapter_of(out) if out.exists() else "nothing"
    assert not acknowledged or found == acknowledged[-1]
    return found


def judge_zoo(folder, acknowledged):
    """Open as a writer does, check every file, and name the tasks."""
    with Zoo.open(folder / "zoo", create=True) as zoo:
        report = zoo.verify()
        assert report.ok, report
        assert report.unfinished == ()
        tasks = {entry.task for entry in zoo.entries()}
    for label in acknowledged:
        verb, task = label.split()
        assert (task in tasks) == (verb == "added"), f"{label}, but there are {tasks}"
    return " ".join(sorted(tasks)) or "nothing"


def make_zoo(folder):
    fill_zoo(folder / "zoo", 2)


def create_and_add(folder, acknowledge):
    with Zoo.open(folder / "zoo", create=True) as zoo:
        zoo.add(zoo_adapter(0), zoo_info("task0"))
        acknowledge("added task0")


def add_two(folder, acknowledge):
    with Zoo.open(folder / "zoo") as zoo:
        for seed in (2, 3):
            zoo.add(zoo_adapter(seed), zoo_info(f"task{seed}"))
            acknowledge(f"added task{seed}")


def remove_one(folder, acknowledge):
    with Zoo.open(folder / "zoo") as zoo:
        zoo.remove(zoo.ids()[0])
        acknowledge("removed task0")


def forget_one(folder, acknowledge):
    with Zoo.open(folder / "zoo") as zoo:
        zoo.guard.forget(zoo.ids()[0])
        acknowledge("removed task0")


def open_old(folder, acknowledge):
    with Zoo.open(folder / "zoo") as zoo:
        zoo.guard.block("0" * 40)


class _Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 3)


def train_state(step):
    """The state of a run after `step` steps; every step has other weights."""
    torch.manual_seed(step)
    model = _Model()
    optimizer = build_optimizer(model, OptimizerConfig())
    model.linear(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    ema = Ema(model, EmaConfig())
    return TrainState(model=model, optimizer=optimizer, ema=ema, step=step, batches_seen=step)


def publish(folder, step):
    process = {"random": {}, "meter": {}}
    save_checkpoint(
        folder / "run",
        train_state(step),
        identity=Identity("data", 1),
        recipe="seed: 0\n",
        processes=[process],
        keep=2,
    )


def make_run(folder):
    for step in (1, 2):
        publish(folder, step)


def publish_third(folder, acknowledge):
    publish(folder, 3)
    acknowledge("checkpoint-3")


def judge_run(folder, acknowledged):
    found, skipped = find_checkpoint(folder / "run")
    assert found is not None
    assert skipped == [], "half a checkpoint is visible"
    state = train_state(9)
    load_state(found, state, process=0)
    expected = train_state(state.step).model.linear.weight
    assert torch.equal(state.model.linear.weight, expected)
    assert not acknowledged or found.name == acknowledged[-1]
    return found.name


OPERATIONS = {
    "save_adapter": Operation(
        lambda folder: None, save_new, judge_output, ("nothing", "adapter 1")
    ),
    "save_adapter_over_an_old_one": Operation(
        lambda folder: save_adapter(zoo_adapter(1), folder / "out", exact=True),
        save_over,
        judge_output,
        ("adapter 1", "adapter 2"),
    ),
    "save_adapter_without_exchange": Operation(
        lambda folder: save_adapter(zoo_adapter(1), folder / "out", exact=True),
        save_over,
        judge_output,
        ("adapter 1", "adapter 2"),
        exchange=False,
    ),
    "zoo_create": Operation(lambda folder: None, create_and_add, judge_zoo, ("nothing", "task0")),
    "zoo_add": Operation(
        make_zoo,
        add_two,
        judge_zoo,
        ("task0 task1", "task0 task1 task2", "task0 task1 task2 task3"),
    ),
    "zoo_remove": Operation(make_zoo, remove_one, judge_zoo, ("task0 task1", "task1")),
    "zoo_forget": Operation(make_zoo, forget_one, judge_zoo, ("task0 task1", "task1")),
    "zoo_migrate": Operation(
        lambda folder: make_old_zoo(folder / "zoo", 2), open_old, judge_zoo, ("task0 task1",)
    ),
    "checkpoint": Operation(
        make_run, publish_third, judge_run, ("checkpoint-2", "checkpoint-3"), ends_late=True
    ),
}


def begin(name: str, folder: Path) -> Path:
    """A folder from which operation `name` begins."""
    folder.mkdir(parents=True)
    OPERATIONS[name].prepare(folder)
    return folder


def copy(folder: Path, target: Path) -> Path:
    return Path(shutil.copytree(folder, target))
