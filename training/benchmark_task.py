"""Benchmarks as recipes: what is measured instead of trained, `report.json` instead of weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

from lora_gen.errors import ConfigError
from lora_gen.files import make_folder
from training.config import require
from training.recipe import Recipe
from training.task import TaskContext


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """What is measured."""

    suite: Literal["size", "peers"]
    """`size`: our pipeline over adapters of many sizes; `peers`: beside published designs."""
    adapters: tuple[str, ...] = ()
    """For `size`: `base/rank`, bases from `recipes/benchmarks/bases`."""
    steps: int = 20
    """For `size`: sampler steps."""
    workers: int = 2
    """CPU threads of our pipeline."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where all of it runs."""
    rpg_widths: tuple[int, ...] = (2048,)
    """For `peers`: token widths of the RPG-style core; 8192 is the published one, 0.94 B."""

    def __post_init__(self) -> None:
        for adapter in self.adapters:
            base, _, rank = adapter.partition("/")
            require(
                bool(base) and rank.isdigit(),
                f"`task.adapters` holds {adapter!r}, but must hold `base/rank` pairs.",
            )
        require(
            self.suite != "size" or len(self.adapters) > 1,
            "`task.adapters` needs two sizes or more, to see how time grows.",
        )


def refuse_training(config: BenchmarkConfig, context: TaskContext) -> NoReturn:
    """A benchmark has no weights, so there is nothing to train or export.

    Raises:
        ConfigError: Always.
    """
    raise ConfigError(
        f"The benchmark `{config.suite}` is measured, not trained or exported. Run it with "
        "`python -m training RECIPE` alone."
    )


def run_benchmark(recipe: Recipe) -> None:
    """Measure what the recipe asks for and write the report into its output folder."""
    from recipes.benchmarks.suite import growth_exponent, peer_rows, size_rows, write_report

    config: BenchmarkConfig = recipe.task
    folder = Path(recipe.run.output_dir)
    make_folder(folder)
    facts: dict[str, object]
    if config.suite == "size":
        rows = size_rows(
            config.adapters, steps=config.steps, workers=config.workers, device=config.device
        )
        for row in rows:
            row["grown_mib"] = row["peak_mib"] - row["setup_mib"]
        key = "cpu_seconds" if config.device == "cpu" else "seconds"
        facts = {"steps": config.steps, "growth_exponent": growth_exponent(rows, key)}
        title = "Seconds and memory against adapter size"
    else:
        rows = peer_rows(workers=config.workers, device=config.device, rpg_widths=config.rpg_widths)
        facts = {}
        title = "One adapter of Qwen2.5-0.5B at rank 8, all linear modules"
    write_report(folder, title, rows, facts)
    print((folder / "report.md").read_text("utf-8"))
