"""`lora-gen convert`: the same adapter in another format."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from lora_gen.cli import options
from lora_gen.cli.common import console, print_json, printable, quiet_libraries, require_free

Out = Annotated[
    Path, typer.Argument(metavar="OUT", help="Folder to write; for kohya a .safetensors file.")
]


class FileFormat(StrEnum):
    """Formats that can be written, the single file among them."""

    peft = "peft"
    diffusers = "diffusers"
    kohya = "kohya"


To = Annotated[FileFormat, typer.Option("--to", "--format", help="Format to write.")]


def convert(
    adapter: options.AdapterFolder,
    out: Out,
    *,
    to: To = FileFormat.peft,
    base: options.Base = None,
    exact: options.Exact = False,
    overwrite: options.Overwrite = False,
    json_output: options.Json = False,
) -> None:
    """Write an adapter in another format, or in the portable profile that every runtime reads.

    \b
    lora-gen convert rslora-adapter portable-adapter
    lora-gen convert my-sd-lora.safetensors folder --to diffusers --base my-sd-base
    lora-gen convert style style.safetensors --to kohya --base tiny_sd
    """
    if to is not FileFormat.kohya:
        require_free(out, overwrite=overwrite)
    quiet_libraries()
    from lora_gen.adapter.base_model import BaseModelSpec
    from lora_gen.adapter.io import load_adapter, save_adapter

    spec = None if base is None else BaseModelSpec.from_config(base)
    loaded = load_adapter(adapter, base=spec)
    if to is FileFormat.kohya:
        from lora_gen.adapter.kohya_format import write_kohya

        write_kohya(loaded, out, base=spec, exact=exact, overwrite=overwrite)
    else:
        known: Literal["peft", "diffusers"] = "peft" if to is FileFormat.peft else "diffusers"
        save_adapter(loaded, out, format=known, base=spec, exact=exact, overwrite=overwrite)
    if json_output:
        print_json({"folder": str(out), "format": to.value, "modules": len(loaded.pairs)})
    else:
        console().print(f"Saved {printable(str(out))} as {to.value}: {len(loaded.pairs)} modules.")
