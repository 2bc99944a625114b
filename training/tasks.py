"""Every task a recipe can name. Their modules are imported only when named."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from lora_gen.errors import ConfigError
from training.task import Task, TaskContext

Build = Callable[[Any, TaskContext], Task]
"""Makes a task from its config section and the run."""


def _toy() -> tuple[type[Any], Build]:
    module = import_module("training.toy_task")
    return module.ToyConfig, module.build_toy


def _generator() -> tuple[type[Any], Build]:
    module = import_module("training.generator_task")
    return module.GeneratorTaskConfig, module.build_generator_task


def _encoder() -> tuple[type[Any], Build]:
    module = import_module("training.encoder_task")
    return module.EncoderTaskConfig, module.build_encoder_task


def _benchmark() -> tuple[type[Any], Build]:
    module = import_module("training.benchmark_task")
    return module.BenchmarkConfig, module.refuse_training


TASKS: dict[str, Callable[[], tuple[type[Any], Build]]] = {
    "benchmark": _benchmark,
    "encoder": _encoder,
    "generator": _generator,
    "toy": _toy,
}
"""Task name -> import of its config class and build function."""


def find_task(name: str) -> tuple[type[Any], Build]:
    """Config class and build function of a task.

    Args:
        name: What `task.name` says in the recipe.

    Raises:
        ConfigError: No task has this name.
    """
    if name not in TASKS:
        near = get_close_matches(name, TASKS, n=1, cutoff=0.0)[0]
        raise ConfigError(
            f"`task.name` is {name!r}, but the tasks are {', '.join(sorted(TASKS))}. "
            f"Did you mean {near!r}?"
        )
    return TASKS[name]()
