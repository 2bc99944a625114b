"""`lora-gen doctor`: what is wrong with an adapter or a zoo, and what to do about it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lora_gen.cli import options
from lora_gen.cli.common import console, print_json, print_table, printable, quiet_libraries
from lora_gen.cli.store_doctor import examine_store
from lora_gen.errors import ConfigError

if TYPE_CHECKING:
    from lora_gen.adapter.doctor import DoctorReport

UNWELL = 1
"""Exit code when the question was fine and the adapter is not."""


def doctor(
    adapter: Annotated[
        Path | None,
        typer.Argument(metavar="[ADAPTER]", help="Adapter folder or .safetensors file."),
    ] = None,
    *,
    base: options.Base = None,
    store: Annotated[
        Path | None,
        typer.Option("--store", metavar="ZOO", help="Check this zoo instead: hash everything."),
    ] = None,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="With --store, delete what no entry owns.")
    ] = False,
    json_output: options.Json = False,
) -> None:
    """Check an adapter: files, config, tensors, fit to the base, and every runtime's limits.

    The exit code is 1 when the adapter is broken or does not fit, or the zoo is damaged; else 0.

    \b
    lora-gen doctor my-adapter
    lora-gen doctor downloaded-adapter --base tiny_lm
    lora-gen doctor --store my-zoo
    """
    if store is not None and adapter is None:
        if not examine_store(store, sweep=sweep, json_output=json_output):
            raise typer.Exit(UNWELL)
        return
    if adapter is None or store is not None or sweep:
        raise ConfigError(
            "`doctor` checks one adapter or one zoo. Name an adapter, or pass `--store ZOO`."
        )
    quiet_libraries()
    from lora_gen.adapter.base_model import BaseModelSpec
    from lora_gen.adapter.doctor import doctor as examine

    spec = None if base is None else BaseModelSpec.from_config(base)
    report = examine(adapter, base=spec)
    if json_output:
        print_json(report.to_dict())
    else:
        _show(report)
    if not report.ok:
        raise typer.Exit(UNWELL)


def _show(report: DoctorReport) -> None:
    fits = {None: "not checked; pass --base", True: "yes", False: "no"}[report.base_matches]
    facts = {
        "format": report.format or "not recognized",
        "base": report.base or "not named",
        "fits the base": fits,
        "modules": len(report.modules),
        "delta norm": f"{report.norm:.4g}",
    }
    for name, value in facts.items():
        console().print(f"{name}: {printable(str(value))}")
    for kind, sentences in (("error", report.errors), ("warning", report.warnings)):
        for sentence in sentences:
            console().print(f"{kind}: {printable(sentence)}")
    if report.runtimes:
        rows = [
            [verdict.runtime, "accepts" if verdict.accepts else "refuses", verdict.reason]
            for verdict in report.runtimes
        ]
        print_table(rows, header=["runtime", "verdict", "why"])
    console().print("Healthy." if report.ok else "This adapter should not be used as it is.")
