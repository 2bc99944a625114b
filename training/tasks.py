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


def _within(module: str, config: str, build: str) -> Callable[[], tuple[type[Any], Build]]:
    """The import of one task's config class and build function, done when called."""

    def found() -> tuple[type[Any], Build]:
        home = import_module(module)
        return getattr(home, config), getattr(home, build)

    return found


TASKS: dict[str, Callable[[], tuple[type[Any], Build]]] = {
    "baseline": _within("training.baseline_task", "BaselineTaskConfig", "build_baseline_task"),
    "benchmark": _within("training.benchmark_task", "BenchmarkConfig", "refuse_training"),
    "encoder": _within("training.encoder_task", "EncoderTaskConfig", "build_encoder_task"),
    "generator": _within("training.generator_task", "GeneratorTaskConfig", "build_generator_task"),
    "lens_generator": _within("training.lens_task", "LensTaskConfig", "build_lens_task"),
    "picture_generator": _within(
        "training.picture_task", "PictureTaskConfig", "build_picture_task"
    ),
    "shared_generator": _within("training.shared_task", "SharedTaskConfig", "build_shared_task"),
    "tiny_sd_autoencoder": _within(
        "recipes.tiny_sd.autoencoder_task",
        "AutoencoderConfig",
        "build_autoencoder_task",
    ),
    "tiny_sd_base": _within("recipes.tiny_sd.base_task", "BaseConfig", "build_base_task"),
    "tiny_sd_reader": _within("recipes.tiny_sd.reader_task", "ReaderConfig", "build_reader_task"),
    "toy": _within("training.toy_task", "ToyConfig", "build_toy"),
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
