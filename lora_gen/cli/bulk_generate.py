"""`lora-gen bulk generate`: one adapter for each task of a file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_gen.cli.generate import Asked, Written, sample, save
from lora_gen.cli.generate_large import is_large, write_large
from lora_gen.errors import ConfigError

if TYPE_CHECKING:
    from lora_gen.jobs import JobOptions
    from lora_gen.pipeline import LoraGenPipeline

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")


def requests_of(
    tasks: Sequence[Mapping[str, Any]], shared: Asked, *, prompts: bool, examples: bool
) -> dict[str, Asked]:
    """What the generator is asked for, by the task's name.

    Args:
        tasks: As `read_tasks` gives them.
        shared: What is the same for all.
        prompts: Show the generator a task's prompts.
        examples: Show it a task's examples.

    Raises:
        ConfigError: A task's name cannot be that of a folder.
    """
    found = {}
    for task in tasks:
        name, described = str(task["task"]), task.get("descriptions") or [None]
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"`{name:.80}` names a task, but cannot name a folder. Use letters, digits and "
                "`._+-`, at most 128."
            )
        found[name] = replace(
            shared,
            text=described[0],
            prompts=list(task["prompts"]) if prompts and task.get("prompts") else None,
            examples=[(str(a), str(b)) for a, b in task["examples"]]
            if examples and task.get("examples")
            else None,
        )
    return found


def generate_many(
    requests: Mapping[str, Asked], out: Path, options: JobOptions
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Write `out/NAME` for each request that is not there yet.

    Yields:
        Name, and `folder` or `error`, with `attempts`.

    Raises:
        ConfigError: A folder was made for another request.
    """
    todo = {name: asked for name, asked in requests.items() if not _is_done(out / name, asked)}
    has_gpu = options.gpus > 0
    jobs = {
        name: {"asked": asdict(asked), "out": str((out / name).absolute()), "on_gpu": has_gpu}
        for name, asked in todo.items()
    }
    for result in options.run("lora_gen.cli.bulk_generate:generate_one", jobs):
        folder, error = out / result.name, result.error
        if error is None and not folder.is_dir():
            error = (
                f"`{folder}` was written on another machine. Name a folder that all machines see."
            )
        row: dict[str, Any] = {"error": error} if error else {"folder": str(folder)}
        yield result.name, {**row, "attempts": result.attempts}


def generate_one(asked: Mapping[str, Any], out: str, on_gpu: bool) -> None:
    """The job: the folder that `lora-gen generate` writes for this request."""
    import torch

    from lora_gen.adapter.base_model import BaseModelSpec
    from lora_gen.cli.common import quiet_libraries

    torch.set_num_threads(1)
    quiet_libraries()
    request = Asked(**asked)
    # What a killed attempt left is no folder: it appears whole, and then nobody asks again.
    where = Written(out=Path(out), format=None, exact=False, overwrite=True)
    pipe = _pipeline(request.generator, request.base, on_gpu)
    if is_large(request, where):
        write_large(pipe, request, where)
        return
    adapters, provenance = sample(request, pipe)
    save(adapters, provenance, where, BaseModelSpec.from_config(provenance[0]["base"]))


@cache
def _pipeline(generator: str | None, base: str | None, on_gpu: bool) -> LoraGenPipeline:
    from lora_gen.assets import default_generator
    from lora_gen.pipeline import LoraGenPipeline

    pipe = LoraGenPipeline.from_pretrained(generator or default_generator(base))
    return pipe.to("cuda") if on_gpu else pipe


def _is_done(folder: Path, asked: Asked) -> bool:
    """Whether the folder is what was asked for."""
    if not folder.exists():
        return False
    from lora_gen.adapter.peft_format import PROVENANCE_NAME
    from lora_gen.strict_json import read_json

    record = read_json(folder / PROVENANCE_NAME, error=ConfigError)
    wanted = {
        "text": asked.text,
        "prompts": asked.prompts or [],
        "examples": [list(pair) for pair in asked.examples or []],
        "rank": asked.rank,
        "seed": asked.seed,
    }
    other = [key for key, value in wanted.items() if record.get(key) != value]
    if other:
        raise ConfigError(
            f"`{folder}` was made for another request (its `{other[0]}` differs). Name another "
            "folder with `--out`."
        )
    return True
