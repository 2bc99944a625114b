"""`lora-gen audit`: whether adapters, or a generator's, are new or copies of the zoo's."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import typer

from lora_gen.cli import options
from lora_gen.cli.common import (
    console,
    print_json,
    print_table,
    printable,
    quiet_libraries,
    quiet_pipelines,
)
from lora_gen.errors import ConfigError

Adapters = Annotated[
    list[Path] | None,
    typer.Argument(metavar="[ADAPTER]...", help="Adapter folders or .safetensors files."),
]
ZooFolder = Annotated[
    Path | None,
    typer.Option("--zoo", help="Zoo the generator learned from. Default: the embedded one."),
]
Tasks = Annotated[
    int, typer.Option("--tasks", min=2, help="Tasks that a generator is asked for, at most.")
]
Split = Annotated[str, typer.Option("--split", help="Split of the zoo that has these tasks.")]
Figure = Annotated[
    Path | None,
    typer.Option("--figure", help="Write accuracy against novelty as .svg, .png or .pdf."),
]


def audit(
    adapters: Adapters = None,
    *,
    zoo: ZooFolder = None,
    generator: options.Generator = None,
    base: options.Base = None,
    tasks: Tasks = 48,
    split: Split = "unseen_composition",
    figure: Figure = None,
    json_output: options.Json = False,
) -> None:
    """Say whether adapters are new, or copies of what the generator learned from.

    \b
    lora-gen audit my-adapter
    lora-gen audit first second --zoo my-zoo --json
    lora-gen audit --generator my-generator --zoo my-zoo --figure audit.svg
    """
    if bool(adapters) == (generator is not None):
        raise ConfigError("Name adapters, or a generator with `--generator`, but not both.")
    if figure is not None and adapters:
        raise ConfigError("`--figure` draws a generator's audit. Pass `--generator`, or leave it.")
    quiet_libraries()
    from lora_gen.assets import asset_path

    folder = zoo or asset_path("tiny_lm", "zoo")
    # The measurement draws progress; on stderr it leaves stdout to the report.
    with redirect_stdout(sys.stderr):
        if adapters:
            from lora_gen.evaluation.audit import audit_adapters

            report = audit_adapters(adapters, folder)
        else:
            report = _generator(str(generator), folder, base, split, tasks)
    if figure is not None:
        from lora_gen.evaluation.figures import audit_figure

        audit_figure(report, figure)
    if json_output:
        print_json(report)
    elif adapters:
        _show_adapters(report)
    else:
        _show_groups(report)
    if figure is not None and not json_output:
        console().print(f"Saved {printable(str(figure))}.")


def _generator(
    generator: str, zoo: Path, base: str | None, split: str, tasks: int
) -> dict[str, Any]:
    quiet_pipelines()
    from lora_gen.evaluation.audit import audit_generator

    return audit_generator(
        zoo=zoo, generator=generator, base=base or "tiny_lm", split=split, tasks=tasks
    )


def _show_adapters(report: dict[str, Any]) -> None:
    rows = [
        [
            record["adapter"],
            record["nearest_task"],
            f"{record['cosine']:.2f}",
            f"{record['relative']:.2f}",
            f"{record['percentile']:.0%}",
            "-" if record["error_overlap"] is None else f"{record['error_overlap']:.0%}",
        ]
        for record in report["adapters"]
    ]
    header = ["adapter", "nearest in the zoo", "cosine", "distance / median", "farther than"]
    print_table(rows, header=[*header, "same mistakes"])
    for record in report["adapters"]:
        console().print(printable(record["verdict"]))


def _show_groups(report: dict[str, Any]) -> None:
    thresholds = list(next(iter(report["groups"].values()))["novel_and_performant"])
    rows = []
    for name, group in report["groups"].items():
        accuracy = sum(group["accuracy"]) / len(group["accuracy"])
        rates = [f"{group['novel_and_performant'][tau]['value']:.2f}" for tau in thresholds]
        rows.append([name, f"{accuracy:.2f}", f"{group['copies']:.2f}", *rates])
    header = ["adapters", "accuracy", "copies", *(f"> {tau}" for tau in thresholds)]
    title = f"novel and performant, {report['split'].replace('_', ' ')}, n={len(report['tasks'])}"
    print_table(rows, header=header, title=title)
    console().print(printable(report["verdict"]))
