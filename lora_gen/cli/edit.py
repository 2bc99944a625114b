"""`lora-gen edit`: an adapter moved along a direction that a zoo's descriptions name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lora_gen.cli import options
from lora_gen.cli.common import console, print_json, printable, quiet_libraries, require_free


def edit(
    adapter: options.AdapterFolder,
    *,
    zoo: Annotated[Path, typer.Option("--zoo", help="Zoo to learn the direction from.")],
    toward: Annotated[
        str, typer.Option("--toward", help="Words of the descriptions that have the attribute.")
    ],
    strength: Annotated[
        float, typer.Option("--strength", help="How far; below 0 moves away from it.")
    ] = 1.0,
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")] = Path("edited"),
    rank: Annotated[int, typer.Option("--rank", min=1, max=64, help="Rank of the result.")] = 16,
    overwrite: options.Overwrite = False,
    json_output: options.Json = False,
) -> None:
    """Move an adapter towards what a zoo's adapters with some words in their descriptions do.

    Example: lora-gen edit my-adapter --zoo my-zoo --toward uppercase --strength 1 --out louder
    """
    require_free(out, overwrite=overwrite)
    quiet_libraries()
    from lora_gen.adapter.io import load_adapter, save_adapter
    from lora_gen.weight_space.attributes import entries_by_phrase
    from lora_gen.weight_space.edit import direction_between, edit_adapter
    from lora_gen.zoo.store import Zoo

    loaded = load_adapter(adapter)
    with Zoo.open(zoo, read_only=True) as opened:
        having, lacking = entries_by_phrase(opened, toward, base=loaded.base)
        sides = [[opened.load(entry_id) for entry_id in side] for side in (having, lacking)]
    done = edit_adapter(loaded, direction_between(*sides), strength, rank=rank)
    record = {
        "edited_from": str(adapter),
        "toward": toward,
        "strength": strength,
        "entries_with_it": len(having),
        "entries_without": len(lacking),
        "relative_error_of_rank": done.error,
    }
    save_adapter(done.adapter, out, overwrite=overwrite, provenance=record)
    if json_output:
        print_json({"folder": str(out), **record})
        return
    console().print(
        f"Saved {printable(str(out))}: moved {strength:g} towards {printable(toward)!r}, learned "
        f"from {len(having)} adapters with it and {len(lacking)} without. Try it before you use it."
    )
