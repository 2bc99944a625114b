"""What the verbs show of a base that draws: a contact sheet, and how the adapter is used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_gen.cli.common import console, printable

if TYPE_CHECKING:
    from lora_gen.adapter.adapter import Adapter

PER_CAPTION = 4
"""Pictures of one caption, each from noise of its own; base and adapters share it."""


def draw_sheet(base: str, adapters: Sequence[Adapter], captions: Sequence[str], out: Path) -> Path:
    """The contact sheet `OUT.png`: base beside adapters, from the same noise.

    Args:
        base: Id or folder of the base.
        adapters: One column each.
        captions: One row each.
        out: The adapters' folder.

    Returns:
        The file written.
    """
    from lora_gen.evaluation.pictures import PictureRunner, contact_sheet, png_bytes
    from lora_gen.files import atomic_write_bytes

    runner = PictureRunner(base)
    repeated = [caption for caption in captions for _ in range(PER_CAPTION)]
    names = ["adapter"] if len(adapters) == 1 else [f"adapter {i}" for i in range(len(adapters))]
    columns = [("base", runner.draw(repeated))]
    columns += [
        (name, runner.draw(repeated, adapter))
        for name, adapter in zip(names, adapters, strict=True)
    ]
    path = out.parent / f"{out.name}.png"
    atomic_write_bytes(path, png_bytes(contact_sheet(captions, columns, per_row=PER_CAPTION)))
    return path


def sheet_record(sheet: Path | None) -> dict[str, Any]:
    """What the JSON document says of the sheet."""
    return {} if sheet is None else {"contact_sheet": str(sheet)}


def show_use(folder: Path, *, sheet: Path | None, draws: bool, embeds: bool = False) -> None:
    """Say where the pictures are, and what to do with the adapter."""
    if sheet is not None:
        console().print(f"Drawn {printable(str(sheet))}: the base beside the adapter.")
    name = printable(str(folder))
    if draws:
        weights = 'weight_name="pytorch_lora_weights.safetensors"'
        console().print(f'Use it: pipe.load_lora_weights("{name}", {weights})', soft_wrap=True)
    elif embeds:
        console().print(f'Use it: lora-gen embed FILE --adapter {name} --query "a sentence"')
    else:
        console().print(f'Use it: lora-gen apply {name} "another input"')
