"""Benchmarks as recipes: what is measured instead of trained, `report.json` instead of weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

from lora_gen.errors import ConfigError
from lora_gen.files import make_folder
from training.config import require
from training.recipe import Recipe
from training.task import TaskContext


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """What is measured."""

    suite: Literal["size", "peers", "steps", "training", "search", "compile"]
    """`size`: our pipeline over adapters of many sizes; `peers`: beside published designs;
    `steps`: accuracy by sampler steps; `training`: one process and two; `search`: features of an 8B
    adapter, and tables of vectors; `compile`: whether `torch.compile` pays."""
    adapters: tuple[str, ...] = ()
    """For `size`: `base/rank`, bases from `recipes/benchmarks/bases`."""
    steps: int = 20
    """For `size` and `compile`: sampler steps. For `training`: optimizer steps."""
    step_counts: tuple[int, ...] = (1, 2, 4, 20)
    """For `steps`: numbers of sampler steps; 4 is what the others are compared with."""
    tasks: int = 100
    """For `steps`: unseen tasks at most."""
    ranks: tuple[int, ...] = (16, 64)
    """For `search`: ranks of the adapters that are encoded."""
    vectors: tuple[int, ...] = (10_000, 100_000)
    """For `search`: adapters in the tables that are searched."""
    recipe: str = "recipes/tiny_lm/generator.yaml"
    """For `training`: the recipe whose steps are timed."""
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
        require(4 in self.step_counts, "`task.step_counts` must hold 4, the pipeline's default.")


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
    from recipes.benchmarks.suite import write_report

    folder = Path(recipe.run.output_dir)
    make_folder(folder)
    write_report(folder, *_measure(recipe.task))
    print((folder / "report.md").read_text("utf-8"))


def _measure(config: BenchmarkConfig) -> tuple[str, list[dict[str, Any]], dict[str, Any]]:
    """Title, rows and facts of a suite's report."""
    from recipes.benchmarks.costs import compile_rows, search_rows, steps_rows, training_rows
    from recipes.benchmarks.suite import growth_exponent, peer_rows, size_rows

    if config.suite == "steps":
        title = "Accuracy by sampler steps, and what they cost"
        return title, *steps_rows(config.step_counts, config.tasks, device=config.device)
    if config.suite == "training":
        return "Training on one process and on two", *training_rows(config.recipe, config.steps)
    if config.suite == "search":
        return "Encode and search", search_rows(config.ranks, config.vectors), {}
    if config.suite == "compile":
        return "One window with torch.compile", *compile_rows(config.steps, device=config.device)
    if config.suite == "size":
        rows = size_rows(
            config.adapters, steps=config.steps, workers=config.workers, device=config.device
        )
        for row in rows:
            row["grown_mib"] = row["peak_mib"] - row["setup_mib"]
        key = "cpu_seconds" if config.device == "cpu" else "seconds"
        facts = {"steps": config.steps, "growth_exponent": growth_exponent(rows, key)}
        return "Seconds and memory against adapter size", rows, facts
    rows = peer_rows(workers=config.workers, device=config.device, rpg_widths=config.rpg_widths)
    return "One adapter of Qwen2.5-0.5B at rank 8, all linear modules", rows, {}
