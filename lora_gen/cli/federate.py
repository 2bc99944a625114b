"""`lora-gen federate`: clients' adapters as one, weighted by their data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lora_gen.cli import options
from lora_gen.cli.common import console, print_json, printable, quiet_libraries, require_free

Clients = Annotated[
    list[Path], typer.Argument(metavar="ADAPTER...", help="Adapters of the clients, of one base.")
]
Sizes = Annotated[
    list[float], typer.Option("--sizes", help="Examples of each client, in their order.")
]


def federate(
    adapters: Clients,
    *,
    sizes: Sizes,
    rank: Annotated[
        int | None,
        typer.Option("--rank", min=1, max=512, help="Rank to send back. Default: the ranks' sum."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")] = Path("server"),
    exact: options.Exact = False,
    overwrite: options.Overwrite = False,
    json_output: options.Json = False,
) -> None:
    """Average clients' adapters exactly: delta weights, weighted by numbers of examples.

    Example: lora-gen federate client-a client-b --sizes 120 --sizes 40 --rank 8 --out server
    """
    require_free(out, overwrite=overwrite)
    quiet_libraries()
    from lora_gen.adapter.io import load_adapter, save_adapter
    from lora_gen.weight_space.federate import federate_adapters

    server = federate_adapters([load_adapter(folder) for folder in adapters], sizes, rank=rank)
    record = {
        "averaged_from": [str(folder) for folder in adapters],
        "sizes": sizes,
        "rank": server.adapter.max_rank,
        "relative_error_of_rank": server.error,
    }
    save_adapter(server.adapter, out, exact=exact, overwrite=overwrite, provenance=record)
    if json_output:
        print_json({"folder": str(out), **record})
        return
    console().print(
        f"Saved {printable(str(out))}: {len(adapters)} clients at rank {server.adapter.max_rank}, "
        f"which leaves out {server.error:.2%} of their mean."
    )
