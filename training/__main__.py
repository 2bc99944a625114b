"""`accelerate launch -m training RECIPE.yaml [key=value ...]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lora_gen.errors import LoraGenError
from training.errors import TrainingError
from training.recipe import load_recipe


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Words after the program's name; None takes those of the process.

    Returns:
        Exit status: 0 when trained or gracefully stopped, 1 when training failed, 2 when the
        recipe or a checkpoint was refused.
    """
    parser = argparse.ArgumentParser(
        prog="python -m training",
        description="Train what a recipe describes; a started run is resumed.",
        epilog="Example: accelerate launch -m training recipes/smoke/toy.yaml optimizer.lr=1e-3",
    )
    parser.add_argument("recipe", type=Path, help="YAML file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="dotted keys")
    parser.add_argument(
        "--force", action="store_true", help="resume although code, data or settings differ"
    )
    parser.add_argument(
        "--export",
        type=Path,
        metavar="FOLDER",
        help="write the artifact of the newest checkpoint and train nothing",
    )
    chosen = parser.parse_args(arguments)
    try:
        recipe = load_recipe(chosen.recipe, chosen.overrides)
        # after the recipe is checked: these load torch
        from training.benchmark_task import run_benchmark
        from training.loop import export, train
        from training.processes import leave_group

        if chosen.export:
            export(recipe, chosen.export, force=chosen.force)
        elif recipe.task_name == "benchmark":
            run_benchmark(recipe)
        else:
            train(recipe, force=chosen.force)
        leave_group()
    except LoraGenError as error:
        print(f"{error.code}: {error}", file=sys.stderr)
        return 1 if isinstance(error, TrainingError) else 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
