"""`lora-gen score`: predicted quality of an adapter, without running it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lora_gen.cli.common import print_json, print_table, quiet_libraries
from lora_gen.cli.options import AdapterFolder, Json


def score(
    adapter: AdapterFolder,
    *,
    encoder: Annotated[
        Path, typer.Option("--encoder", help="Folder of a trained adapter encoder.")
    ],
    json_output: Json = False,
) -> None:
    """Predict how well an adapter does its task, with an interval, or say that it is unknown.

    Example: lora-gen score my-adapter --encoder build/tiny_lm/encoder/final
    """
    from lora_gen.adapter.io import load_adapter
    from lora_gen.retrieval.encoder import WeightEncoder
    from lora_gen.retrieval.predict import score_adapter

    quiet_libraries()
    found = score_adapter(load_adapter(adapter), WeightEncoder.from_pretrained(encoder))
    if json_output:
        print_json(found.to_dict())
        return
    rows: list[tuple[str, object]] = [("known", "yes" if found.known else f"no: {found.reason}")]
    if found.accuracy is not None:
        rows.append(("predicted accuracy", f"{found.accuracy:.2f}"))
        rows.append(("90% interval", f"{found.low:.2f} to {found.high:.2f}"))
    rows.append(("distance from training", f"{found.distance:.1f} of {found.limit:.1f}"))
    print_table(rows, header=("finding", "value"))
