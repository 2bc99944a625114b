"""Seconds of the optimizer steps of a recipe, on one process or two.

python -m torch.distributed.run --nproc_per_node 2 -m recipes.benchmarks.training_speed RECIPE OUT
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import training.loop
from lora_gen.files import atomic_write_json
from training.interrupt import StopRequest
from training.processes import leave_group
from training.recipe import load_recipe

_ROOT = Path(__file__).parents[2]
_WARM_UP = 2
"""Steps that are not counted: the first ones fill caches."""


def throughput(recipe: str, processes: int, steps: int) -> dict[str, Any]:
    """What a step costs each of so many processes, one thread each.

    Returns:
        `seconds`: wall time of a step. `core_seconds`: processor time of a step of the slowest
            process, for which the others wait; what the step would take where each has a core of
            its own. `tokens_a_second` and `tokens_a_core_second`: tokens of the base that all read.
    """
    with tempfile.TemporaryDirectory() as folder:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
        own = ["-m", __name__, recipe, folder, str(steps + _WARM_UP)]
        subprocess.run(
            [sys.executable, *launcher, str(processes), *own],
            check=True,
            cwd=_ROOT,
            stdout=subprocess.DEVNULL,
            env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        )
        found = [json.loads(p.read_text("utf-8")) for p in sorted(Path(folder).glob("rank*.json"))]
    seconds = max(each["seconds"] for each in found)
    slowest = [max(step) for step in zip(*(each["core_seconds"] for each in found), strict=True)]
    core_seconds = sum(slowest) / len(slowest)
    tokens = sum(each["tokens"] for each in found)
    return {
        "processes": len(found),
        "seconds": round(seconds, 3),
        "core_seconds": round(core_seconds, 3),
        "tokens_a_step": round(tokens),
        "tokens_a_second": round(tokens / seconds),
        "tokens_a_core_second": round(tokens / core_seconds),
    }


def main() -> None:
    """Train a few steps as one process of the run, and write what a step took."""
    recipe, folder, steps = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    rank = int(os.environ["RANK"])
    loaded = load_recipe(
        Path(recipe),
        [
            f"output_dir={folder / 'run'}",
            f"max_steps={steps}",
            "checkpoint.every=1000000",
            "tracking.eval_every=0",
            "task.zoo=null",
            "task.objective.flow_weight=0.0",
        ],
    )
    marks: list[tuple[float, float]] = []
    tokens: list[int] = []
    loop: Any = training.loop
    step, build = loop._step, loop.build_run

    def timed(run: Any, stop: StopRequest) -> bool:
        done: bool = step(run, stop)
        marks.append((time.perf_counter(), time.process_time()))
        return done

    def spied(*arguments: Any) -> Any:
        run = build(*arguments)
        batch = run.task.batch

        def noted(index: int) -> Any:
            found = batch(index)
            tokens.append(found["input_ids"].numel())
            return found

        run.task.batch = noted
        return run

    loop._step, loop.build_run = timed, spied
    loop.train(loaded)
    counted = marks[_WARM_UP - 1 :]
    count = len(counted) - 1
    mean = {
        "seconds": (counted[-1][0] - counted[0][0]) / count,
        "core_seconds": [after - before for (_, before), (_, after) in pairwise(counted)],
        "tokens": sum(tokens[_WARM_UP:]) / count,
    }
    atomic_write_json(folder / f"rank{rank}.json", mean)
    leave_group()


if __name__ == "__main__":
    main()
