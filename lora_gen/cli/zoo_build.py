"""`lora-gen zoo build`: train one LoRA for each task of a file, on this machine or a cluster."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lora_gen.cli.common import console, handled, print_json, printable, quiet_libraries
from lora_gen.cli.options import Json
from lora_gen.cli.zoo import ZooFolder, zoo_app

__all__ = ["zoo_app"]

FAILED = 1
"""Exit code when a task could not be trained, after all its attempts."""


class ExecutorName(StrEnum):
    """Where jobs run."""

    local = "local"
    ray = "ray"


@zoo_app.command("build")
@handled
def build(
    zoo: ZooFolder,
    *,
    tasks: Annotated[
        Path, typer.Option("--tasks", help="JSON lines: task, examples, descriptions, tests …")
    ],
    base: Annotated[str, typer.Option("--base", help="Embedded id, folder or hub id.")],
    rank: Annotated[int, typer.Option("--rank", min=1, max=512, help="LoRA rank.")] = 8,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Optimizer steps a LoRA.")] = 48,
    executor: Annotated[
        ExecutorName, typer.Option("--executor", help="Processes here, or a Ray cluster.")
    ] = ExecutorName.local,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Trainings at a time.")] = 1,
    json_output: Json = False,
) -> None:
    """Train one LoRA for each task that the zoo does not hold yet; run it again to go on.

    A worker that dies costs one attempt of its task; each task has three. A Ray cluster is the one
    that `RAY_ADDRESS` names, or one on this machine.

    Example: lora-gen zoo build my-zoo --tasks tasks.jsonl --base tiny_lm --workers 2
    """
    from lora_gen.evaluation.zoo_build import BuildOptions, build_zoo, read_tasks

    quiet_libraries()
    options = BuildOptions(
        base=base, rank=rank, steps=steps, executor=executor.value, workers=workers
    )
    found = []
    for built in build_zoo(zoo, read_tasks(tasks), options):
        found.append(built)
        if not json_output:
            state = f"added {built.id}" if built.id else f"FAILED: {printable(built.error or '')}"
            console().print(f"{printable(built.task)}: {state}")
    if json_output:
        print_json([asdict(built) for built in found])
    failed = sum(built.id is None for built in found)
    if not json_output:
        console().print(f"{len(found) - failed} trained, {failed} failed")
    if failed:
        raise typer.Exit(FAILED)
