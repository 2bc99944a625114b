"""Options that several verbs share, each described once."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class FolderFormat(StrEnum):
    """Folder formats that can be written."""

    peft = "peft"
    diffusers = "diffusers"


AdapterFolder = Annotated[
    Path,
    typer.Argument(
        metavar="ADAPTER", help="Adapter folder (PEFT, Diffusers) or .safetensors file."
    ),
]
Base = Annotated[
    str | None,
    typer.Option(
        "--base", help="Base model: an embedded id such as tiny_lm, a folder or a hub id."
    ),
]
Generator = Annotated[
    str | None,
    typer.Option("--generator", help="Generator folder or hub id. Default: the embedded one."),
]
FORMAT = typer.Option(
    "--to", "--format", help="Format to write. Default: what the base's own library reads."
)
Format = Annotated[FolderFormat, typer.Option("--to", "--format", help="Format to write.")]
Exact = Annotated[
    bool,
    typer.Option("--exact", help="Keep ranks and scalings instead of the portable profile."),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace the output folder when it exists.")
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document and nothing else on stdout.")
]
