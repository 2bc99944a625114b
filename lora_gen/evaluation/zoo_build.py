"""A zoo from tasks alone: one LoRA trained for each, as independent jobs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from lora_gen.adapter.adapter import Adapter, LoraPair
from lora_gen.adapter.base_model import BaseModelSpec
from lora_gen.adapter.stacked import stack_adapters
from lora_gen.conditioning.chat import load_causal_lm
from lora_gen.errors import ConfigError
from lora_gen.evaluation.behavior import exact_matches
from lora_gen.evaluation.fitting import FitConfig, fresh_adapter
from lora_gen.evaluation.refine import refine
from lora_gen.jobs import JobOptions
from lora_gen.strict_json import parse_json
from lora_gen.zoo.entry import EntryInfo
from lora_gen.zoo.store import Zoo

_KEYS = frozenset(("task", "family", "split", "descriptions", "prompts", "examples", "tests"))


@dataclass(frozen=True, kw_only=True)
class BuildOptions(JobOptions):
    """How the adapters of a zoo are trained, and where."""

    base: str
    rank: int = 8
    steps: int = 48
    lr: float = 1e-2
    batch: int = 4
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Built:
    """How one task ended."""

    task: str
    id: str | None
    """Id of the entry; None when its training failed."""
    accuracy: float | None
    attempts: int
    error: str | None


def read_tasks(path: Path, *, needs: Sequence[str] = ("examples",)) -> list[dict[str, Any]]:
    """Tasks of a JSON lines file: `task`, `examples`, and what else an entry has.

    Args:
        path: The file.
        needs: What a task must have one of, besides its name.

    Raises:
        ConfigError: It cannot be read, a line is no task, or two have one name.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"`{path}` cannot be read ({error}). Pass JSON lines.") from error
    tasks: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(lines, 1):
        task = parse_json(line.encode(), subject=f"`{path}` line {number}", error=ConfigError)
        name = task.get("task")
        unknown = sorted(set(task) - _KEYS)
        has_one = any(task.get(key) for key in needs)
        if not isinstance(name, str) or not has_one or unknown or name in tasks:
            raise ConfigError(
                f"`{path}` line {number} is no new task with `task` and `{'` or `'.join(needs)}`"
                + (f" (unknown key `{unknown[0]:.40}`)." if unknown else ".")
                + f" Allowed are {', '.join(sorted(_KEYS))}."
            )
        tasks[name] = task
    if not tasks:
        raise ConfigError(f"`{path}` has no lines. Write one task a line.")
    return list(tasks.values())


def build_zoo(
    folder: Path, tasks: Sequence[Mapping[str, Any]], options: BuildOptions
) -> Iterator[Built]:
    """Train what the zoo does not hold yet, and add each adapter as soon as it is done.

    Args:
        folder: The zoo; made if it is missing or empty.
        tasks: As `read_tasks` gives them.
        options: Base, training and executor.

    Yields:
        How each task ended; the tasks that the zoo already holds are not among them.

    Raises:
        LoraGenError: The zoo or the options are refused.
    """
    is_new = not folder.exists() or not any(folder.iterdir())
    with Zoo.open(folder, create=is_new) as zoo:
        done = {entry.task for entry in zoo.entries(base=options.base)}
        todo = {str(task["task"]): dict(task) for task in tasks if task["task"] not in done}
        jobs = {
            name: {"task": task, "options": asdict(options), "seed": options.seed + i}
            for i, (name, task) in enumerate(todo.items())
        }
        for result in options.run("lora_gen.evaluation.zoo_build:train_task", jobs):
            entry_id, accuracy = None, None
            if result.error is None:
                factors, info = result.value
                adapter = _adapter_of(factors, _spec(options.base))
                entry_id, accuracy = zoo.add(adapter, EntryInfo(**info)).id, info["accuracy"]
            yield Built(
                task=result.name,
                id=entry_id,
                accuracy=accuracy,
                attempts=result.attempts,
                error=result.error,
            )


def train_task(
    task: Mapping[str, Any], options: Mapping[str, Any], seed: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The job: a trained adapter's factors as arrays, and the fields of its entry."""
    torch.set_num_threads(1)
    base, rank = options["base"], options["rank"]
    config = FitConfig(steps=options["steps"], lr=options["lr"], batch=options["batch"], seed=seed)
    examples = [(str(a), str(b)) for a, b in task["examples"]]
    start = fresh_adapter(_spec(base), rank=rank, seed=seed)
    adapter = refine(start, examples, base=base, config=config).adapter
    tests = [(str(a), str(b)) for a, b in task.get("tests", ())]
    fields = {
        key: task[key] for key in ("family", "split", "descriptions", "prompts") if key in task
    }
    factors = {
        name: (pair.lora_a.numpy(), pair.folded().lora_b.numpy())
        for name, pair in adapter.pairs.items()
    }
    return factors, {
        **json.loads(json.dumps(fields)),
        "task": task["task"],
        "examples": examples,
        "seed": seed,
        "steps": options["steps"],
        "accuracy": _accuracy(base, adapter, tests) if tests else None,
        "extra": {"tests": tests} if tests else {},
    }


def _adapter_of(factors: Mapping[str, Any], spec: BaseModelSpec) -> Adapter:
    """The adapter again: arrays travel between processes and machines as plain bytes."""
    pairs = {
        name: LoraPair(lora_a=torch.from_numpy(a), lora_b=torch.from_numpy(b))
        for name, (a, b) in factors.items()
    }
    return Adapter(pairs=pairs, base=spec.id, task_type=spec.task_type)


@cache
def _spec(base: str) -> BaseModelSpec:
    return BaseModelSpec.from_config(base)


def _accuracy(base: str, adapter: Adapter, tests: Sequence[tuple[str, str]]) -> float:
    model, chat = load_causal_lm(base)
    lines = chat.pack([chat.line(*pair) for pair in tests])
    return float(exact_matches(model, lines, stack_adapters([adapter])).float().mean())
