"""`lora-gen evaluate`: report.json and report.md for a generator on a zoo's splits."""

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
    printable,
    quiet_libraries,
    quiet_pipelines,
    require_free,
)

ZooFolder = Annotated[
    Path | None, typer.Option("--zoo", help="Zoo folder. Default: the embedded one.")
]
Out = Annotated[Path, typer.Option("--out", help="Folder for report.json and report.md.")]
Tasks = Annotated[
    int | None, typer.Option("--tasks", min=1, help="Tasks a split at most. Default: all of them.")
]
Seeds = Annotated[
    int, typer.Option("--seeds", min=1, max=64, help="Seeds to average over; none is picked.")
]

Baselines = Annotated[
    str | None,
    typer.Option(
        "--baselines",
        help="Baselines to measure: `all`, or names after commas. Default: mean LoRA and nearest "
        "text.",
    ),
]
Figure = Annotated[
    Path | None,
    typer.Option(
        "--figure", help="Draw exact match against size and speed, as .svg, .png or .pdf."
    ),
]


def evaluate(
    *,
    zoo: ZooFolder = None,
    generator: options.Generator = None,
    base: options.Base = None,
    out: Out = Path("report"),
    tasks: Tasks = None,
    seeds: Seeds = 3,
    baselines: Baselines = None,
    figure: Figure = None,
    overwrite: options.Overwrite = False,
    json_output: options.Json = False,
) -> None:
    """Measure a generator against its base, the oracle adapters and simpler ways, on every split.

    \b
    lora-gen evaluate --out report
    lora-gen evaluate --zoo my-zoo --generator my-generator --tasks 20 --seeds 1 --json
    lora-gen evaluate --baselines all --figure costs.svg
    """
    require_free(out, overwrite=overwrite)
    quiet_libraries()
    quiet_pipelines()
    from lora_gen.assets import asset_path, default_generator
    from lora_gen.evaluation.baselines.registry import DEFAULT
    from lora_gen.evaluation.run import evaluate as run

    named = [name.strip() for name in (baselines or "").split(",") if name.strip()]
    # The measurement draws progress; on stderr it leaves stdout to the report.
    with redirect_stdout(sys.stderr):
        report = run(
            zoo=zoo or asset_path("tiny_lm", "zoo"),
            generator=generator or default_generator(),
            base=base or "tiny_lm",
            out=out,
            tasks=tasks,
            seeds=seeds,
            baselines=named or DEFAULT,
        )
    if figure is not None:
        _draw(report, figure)
    if json_output:
        print_json(report)
    else:
        console().print((out / "report.md").read_text(encoding="utf-8"))
        console().print(f"Saved {printable(str(out))}: report.json, report.md.")


def _draw(report: dict[str, Any], path: Path) -> None:
    """The figure of the split that says most about generalization, among those measured."""
    from lora_gen.evaluation.figures import cost_figure

    found = list(report["summary"])
    cost_figure(report, path, "unseen_composition" if "unseen_composition" in found else found[0])
