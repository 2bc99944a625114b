"""`lora-gen bulk`: generate, encode and evaluate many adapters, on this machine or a cluster."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lora_gen.cli import options
from lora_gen.cli.common import console, handled, print_json, printable, quiet_libraries
from lora_gen.cli.zoo_build import FAILED, ExecutorName

if TYPE_CHECKING:
    from lora_gen.jobs import JobOptions

bulk_app = typer.Typer(
    no_args_is_help=True,
    help="Work on many adapters as jobs that are retried; run a command again to go on. A Ray "
    "cluster is the one that `RAY_ADDRESS` names, or one on this machine.",
)


Executor = Annotated[
    ExecutorName, typer.Option("--executor", help="Processes here, or a Ray cluster.")
]
Workers = Annotated[int, typer.Option("--workers", min=1, help="Jobs at a time.")]
Zoo = Annotated[Path, typer.Argument(metavar="ZOO", help="Folder of the zoo.")]


@bulk_app.command("generate")
@handled
def generate(
    tasks: Annotated[
        Path, typer.Argument(metavar="TASKS", help="JSON lines: task, descriptions, examples …")
    ],
    *,
    out: Annotated[Path, typer.Option("--out", help="Folder for one adapter folder a task.")],
    base: options.Base = None,
    generator: options.Generator = None,
    rank: Annotated[int, typer.Option("--rank", min=1, max=512, help="LoRA rank.")] = 4,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the noise of each.")] = 0,
    show: Annotated[
        list[str] | None,
        typer.Option("--show", help="Show the generator `prompts` or `examples` too; repeatable."),
    ] = None,
    allow_untrained: Annotated[
        bool, typer.Option("--allow-untrained", help="Accept a base it was not trained for.")
    ] = False,
    executor: Executor = ExecutorName.local,
    workers: Workers = 1,
    gpus: Annotated[
        float, typer.Option("--gpus", min=0, help="Share of a GPU that each job gets from Ray.")
    ] = 0.0,
    json_output: options.Json = False,
) -> None:
    """Generate one adapter for each task of a file, from its first description.

    Example: lora-gen bulk generate tasks.jsonl --out adapters --workers 2
    """
    from lora_gen.cli.bulk_generate import generate_many, requests_of
    from lora_gen.cli.generate import Asked
    from lora_gen.errors import ConfigError
    from lora_gen.evaluation.zoo_build import read_tasks

    shown = set(show or ())
    if shown - {"prompts", "examples"}:
        raise ConfigError("`--show` must be `prompts` or `examples`. Descriptions always are.")
    fixed: dict[str, Any] = {"target": None, "num": 1, "best": False, "steps": None}
    empty: dict[str, Any] = {"text": None, "prompts": None, "examples": None, "guidance": None}
    shared = Asked(
        **fixed,
        **empty,
        base=base,
        rank=rank,
        seed=seed,
        generator=generator,
        allow_untrained=allow_untrained,
    )
    read = read_tasks(tasks, needs=("descriptions", *sorted(shown)))
    requests = requests_of(read, shared, prompts="prompts" in shown, examples="examples" in shown)
    _finish(generate_many(requests, out, _options(executor, workers, gpus)), json_output)


@bulk_app.command("encode")
@handled
def encode(
    zoo: Zoo,
    *,
    encoder: Annotated[
        Path | None,
        typer.Option("--encoder", help="Folder of a trained adapter encoder. Default: embedded."),
    ] = None,
    index: Annotated[
        Path | None,
        typer.Option("--index", help="Where vectors are kept. Default: the user's cache."),
    ] = None,
    executor: Executor = ExecutorName.local,
    workers: Workers = 1,
    json_output: options.Json = False,
) -> None:
    """Bring the index of a zoo up to date: the vectors that `search`, `similar` and `map` need.

    Example: lora-gen bulk encode my-zoo --workers 2
    """
    from lora_gen.cli.search import load_encoder
    from lora_gen.evaluation.bulk import BulkVectorizer
    from lora_gen.retrieval.search import AdapterIndex

    quiet_libraries()
    vectorizer = BulkVectorizer(
        _options(executor, workers), load_encoder(encoder), encoder_folder=encoder
    )
    with AdapterIndex.open(zoo, folder=index, vectorizer=vectorizer) as opened:
        total, done = len(opened.zoo.ids()), list(opened.repairs)
    if json_output:
        print_json({"entries": total, "done": done})
        return
    for line in done:
        console().print(printable(line))
    console().print(f"{total} entries, index up to date")


@bulk_app.command("evaluate")
@handled
def evaluate(
    adapters: Annotated[
        Path, typer.Argument(metavar="ADAPTERS", help="A zoo, or a folder of adapter folders.")
    ],
    *,
    base: Annotated[str, typer.Option("--base", help="Embedded id, folder or hub id.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for report.json and report.md.")],
    tasks: Annotated[
        Path | None,
        typer.Option("--tasks", help="JSON lines with `tests`. Default: those the zoo keeps."),
    ] = None,
    inputs: Annotated[int, typer.Option("--inputs", min=1, help="Tests an adapter.")] = 16,
    executor: Executor = ExecutorName.local,
    workers: Workers = 1,
    json_output: options.Json = False,
) -> None:
    """Measure exact match of each adapter on its tests, sixteen adapters in one pass of the base.

    Example: lora-gen bulk evaluate adapters --tasks tasks.jsonl --base tiny_lm --out report
    """
    from lora_gen.evaluation.bulk import adapters_with_tests, evaluate_adapters
    from lora_gen.evaluation.zoo_build import read_tasks

    quiet_libraries()
    tests = None
    if tasks is not None:
        read = read_tasks(tasks, needs=("tests",))
        tests = {str(t["task"]): [(str(a), str(b)) for a, b in t["tests"]] for t in read}
    found = adapters_with_tests(adapters, tests)
    measured = evaluate_adapters(
        found, base=base, out=out, options=_options(executor, workers), inputs=inputs
    )
    _finish(measured, json_output)


def _options(executor: ExecutorName, workers: int, gpus: float = 0.0) -> JobOptions:
    from lora_gen.jobs import JobOptions

    return JobOptions(executor=executor.value, workers=workers, gpus=gpus)


def _finish(ended: Iterable[tuple[str, dict[str, Any]]], json_output: bool) -> None:
    """Say how each job ended as it ends, and leave with an error where one failed."""
    rows = {}
    for name, row in ended:
        rows[name] = row
        if not json_output:
            words = ", ".join(f"{key} {_short(value)}" for key, value in row.items())
            console().print(printable(f"{name}: {words}"))
    failed = sum("error" in row for row in rows.values())
    if json_output:
        print_json(rows)
    else:
        console().print(f"{len(rows) - failed} done, {failed} failed")
    if failed:
        raise typer.Exit(FAILED)


def _short(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
