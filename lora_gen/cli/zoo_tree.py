"""`lora-gen zoo tree`: which adapters of a zoo were made from which, by their weights alone."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from lora_gen.cli.common import console, handled, print_json, printable
from lora_gen.cli.options import Json
from lora_gen.cli.zoo import ZooFolder
from lora_gen.cli.zoo_guard import zoo_app

__all__ = ["zoo_app"]

_SHOWN_ID = 12


@zoo_app.command("tree")
@handled
def tree(
    zoo: ZooFolder,
    *,
    base: Annotated[str | None, typer.Option("--base", help="Only for this base model.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Drawing to write: tree.svg.")] = None,
    show_all: Annotated[
        bool, typer.Option("--all", help="Show adapters without relatives too.")
    ] = False,
    json_output: Json = False,
) -> None:
    """Show copies, truncations, checkpoints and merges, each under what it was made from.

    Example: lora-gen zoo tree my-zoo --out tree.svg
    """
    from lora_gen.files import atomic_write_text
    from lora_gen.weight_space.lineage import lineage
    from lora_gen.weight_space.tree import tree_rows, tree_svg
    from lora_gen.zoo.store import Zoo

    with Zoo.open(zoo, read_only=True) as opened:
        entries = opened.entries(base=base)
        relations = lineage({entry.id: opened.load(entry.id) for entry in entries})
    labels = {entry.id: f"{entry.task} {entry.id[:_SHOWN_ID]}" for entry in entries}
    rows = tree_rows(list(labels), relations, related_only=not show_all)
    if out is not None:
        atomic_write_text(out, tree_svg(rows, labels))
    if json_output:
        print_json([asdict(relation) for relation in relations])
        return
    for depth, name, relation in rows:
        words = "" if relation is None else f"  {relation.kind} ({relation.explained:.0%})"
        console().print(printable("    " * depth + labels[name] + words))
    related = len({name for _, name, _ in rows})
    console().print(f"{len(relations)} of {len(entries)} adapters have a parent, {related} shown.")
