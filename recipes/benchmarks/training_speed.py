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
        `seconds`: wall time of a step. `cpu_seconds`: processor time of a step, of one process.
            `lines_a_second` and `lines_a_cpu_second`: lines of the base that all of them read.
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
    cpu_seconds = sum(each["cpu_seconds"] for each in found) / len(found)
    tokens = sum(each["tokens"] for each in found)
    return {
        "processes": len(found),
        "seconds": round(seconds, 3),
        "cpu_seconds": round(cpu_seconds, 3),
        "tokens_a_step": round(tokens),
        "tokens_a_second": round(tokens / seconds),
        "tokens_a_cpu_second": round(tokens / cpu_seconds / len(found)),
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

        def counted(index: int) -> Any:
            found = batch(index)
            tokens.append(found["input_ids"].numel())
            return found

        run.task.batch = counted
        return run

    loop._step, loop.build_run = timed, spied
    loop.train(loaded)
    (wall_0, cpu_0), (wall_1, cpu_1) = marks[_WARM_UP - 1], marks[-1]
    count = len(marks) - _WARM_UP
    mean = {
        "seconds": (wall_1 - wall_0) / count,
        "cpu_seconds": (cpu_1 - cpu_0) / count,
        "tokens": sum(tokens[_WARM_UP:]) / count,
    }
    atomic_write_json(folder / f"rank{rank}.json", mean)
    leave_group()


if __name__ == "__main__":
    main()
