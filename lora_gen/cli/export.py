"""`lora-gen export`: an adapter in the form that one runtime reads, or why it would not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lora_gen.cli import options
from lora_gen.cli.common import console, print_json, printable, quiet_libraries, require_free


def export(
    adapter: options.AdapterFolder,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write.")],
    *,
    runtime: Annotated[
        str, typer.Option("--for", help="vllm, sglang, lorax, llama.cpp, ollama or comfyui.")
    ],
    base: options.Base = None,
    overwrite: options.Overwrite = False,
    json_output: options.Json = False,
) -> None:
    """Write an adapter for a runtime; refuse where it would be applied wrongly.

    \b
    lora-gen export my-adapter served --for vllm
    lora-gen export my-adapter gguf --for llama.cpp --base models/llama-3.1-8b
    """
    require_free(out, overwrite=overwrite)
    quiet_libraries()
    from lora_gen.adapter.base_model import BaseModelSpec
    from lora_gen.adapter.export import export_adapter
    from lora_gen.adapter.io import load_adapter
    from lora_gen.errors import BaseModelError

    name = base or load_adapter(adapter).base
    if name is None:
        raise BaseModelError("The adapter does not name its base. Pass `--base`.")
    spec = BaseModelSpec.from_config(name)
    loaded = load_adapter(adapter, base=spec)
    verdict = export_adapter(loaded, out, runtime, base=spec, overwrite=overwrite)
    if json_output:
        print_json({"folder": str(out), "runtime": verdict.runtime, "note": verdict.reason})
    else:
        console().print(f"Saved {printable(str(out))} for {verdict.runtime}: {verdict.reason}.")
