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


def _picture_generator() -> tuple[type[Any], Build]:
    module = import_module("training.picture_task")
    return module.PictureTaskConfig, module.build_picture_task


def _tiny_sd_autoencoder() -> tuple[type[Any], Build]:
    module = import_module("recipes.tiny_sd.autoencoder_task")
    return module.AutoencoderConfig, module.build_autoencoder_task


def _tiny_sd_base() -> tuple[type[Any], Build]:
    module = import_module("recipes.tiny_sd.base_task")
    return module.BaseConfig, module.build_base_task


def _tiny_sd_reader() -> tuple[type[Any], Build]:
    module = import_module("recipes.tiny_sd.reader_task")
    return module.ReaderConfig, module.build_reader_task


def _benchmark() -> tuple[type[Any], Build]:
    module = import_module("training.benchmark_task")
    return module.BenchmarkConfig, module.refuse_training


TASKS: dict[str, Callable[[], tuple[type[Any], Build]]] = {
    "benchmark": _benchmark,
    "encoder": _encoder,
    "generator": _generator,
    "picture_generator": _picture_generator,
    "tiny_sd_autoencoder": _tiny_sd_autoencoder,
    "tiny_sd_base": _tiny_sd_base,
    "tiny_sd_reader": _tiny_sd_reader,
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
