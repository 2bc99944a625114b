"""The command `lora-gen`: the table of its verbs."""

from __future__ import annotations

from typing import Annotated

import typer

from lora_gen.cli.apply import apply
from lora_gen.cli.audit import audit
from lora_gen.cli.bulk import bulk_app
from lora_gen.cli.choose import choose
from lora_gen.cli.common import handled
from lora_gen.cli.compress import compress
from lora_gen.cli.convert import convert
from lora_gen.cli.doctor import doctor
from lora_gen.cli.edit import edit
from lora_gen.cli.embed import embed
from lora_gen.cli.evaluate import evaluate
from lora_gen.cli.export import export
from lora_gen.cli.federate import federate
from lora_gen.cli.generate import generate
from lora_gen.cli.inspect import inspect
from lora_gen.cli.map import zoo_map
from lora_gen.cli.merge import merge
from lora_gen.cli.nowcast import nowcast
from lora_gen.cli.refine import refine
from lora_gen.cli.score import score
from lora_gen.cli.search import search, similar
from lora_gen.cli.zoo_tree import zoo_app

app = typer.Typer(
    name="lora-gen",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
VERBS = (
    *(generate, apply, inspect, doctor, convert, evaluate, audit, refine),
    *(search, similar, score, embed),
    *(merge, compress, edit, federate, nowcast, choose, export),
)
for verb in VERBS:
    app.command(verb.__name__)(handled(verb))
app.command("map")(handled(zoo_map))
app.add_typer(bulk_app, name="bulk")
app.add_typer(zoo_app, name="zoo")


def _version(wanted: bool) -> None:
    if wanted:
        from lora_gen import __version__

        typer.echo(f"lora-gen {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Describe a task, get a LoRA adapter.

    \b
    lora-gen generate "keep only the digits" --out digits --try "(415) 555-0132"
    lora-gen apply digits "+44 20 7946 0958"
    lora-gen doctor digits
    """


def main() -> None:
    """Run the command line."""
    app()
