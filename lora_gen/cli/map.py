"""`lora-gen map`: the adapters of a zoo as points, as data and as a picture."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lora_gen.cli.common import console, print_json, printable, quiet_libraries
from lora_gen.cli.options import Json
from lora_gen.cli.search import Encoder, IndexFolder, ZooFolder, open_index
from lora_gen.errors import ConfigError


class MapBy(StrEnum):
    """What makes two adapters near."""

    signature = "signature"
    weights = "weights"
    text = "text"


def zoo_map(
    *,
    zoo: ZooFolder = None,
    by: Annotated[
        MapBy, typer.Option("--by", help="Near by delta weights, trained encoder or descriptions.")
    ] = MapBy.signature,
    adapter: Annotated[
        list[Path] | None, typer.Option("--adapter", help="Adapter to put on the map; repeatable.")
    ] = None,
    encoder: Encoder = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Picture to write, such as map.png.")
    ] = None,
    index: IndexFolder = None,
    json_output: Json = False,
) -> None:
    """Map a zoo by its two main components, with other adapters among its own.

    Example: lora-gen map --zoo my-zoo --adapter my-adapter --out map.png
    """
    from lora_gen.adapter.io import load_adapter
    from lora_gen.retrieval.map import draw_map, map_zoo

    if out is None and not json_output:
        raise ConfigError("The map goes nowhere. Pass `--out map.png`, `--json`, or both.")
    quiet_libraries()
    others = {folder.name: load_adapter(folder) for folder in adapter or ()}
    with open_index(zoo, encoder=encoder, folder=index) as opened:
        found = map_zoo(opened, column=by.value, others=others)
    if out is not None:
        draw_map(found, out)
    if json_output:
        print_json(found.to_dict())
    else:
        console().print(f"{len(found.points)} adapters in {printable(str(out))}")
