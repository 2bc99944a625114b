"""Pictures to look at: what the base draws, and styles beside what their adapters draw.

python -m recipes.tiny_sd.sheets --zoo build/tiny_sd/zoo --out build/tiny_sd/reports
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from lora_gen.adapter.adapter import Adapter
from lora_gen.evaluation.pictures import PictureRunner, contact_sheet, png_bytes
from lora_gen.files import atomic_write_bytes
from lora_gen.zoo.entry import ZooEntry
from lora_gen.zoo.store import Zoo
from recipes.tiny_sd.train_adapters import TEST_SEED, scenes_of
from recipes.tiny_sd.world.styles import styles_by_name

CAPTIONS = (
    "two red circles",
    "a blue star on the left",
    "three green triangles on a pink background",
    "a purple moon and a yellow square",
)
PER_ROW = 4
BASE, STYLE = "base", "the style itself"


def main() -> None:
    """Draw the sheets."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", default="tiny_sd")
    parser.add_argument("--zoo")
    parser.add_argument("--out", required=True)
    parser.add_argument("--generator", help="draws a third sheet: unseen compositions from text")
    parser.add_argument("--styles", type=int, default=16)
    args = parser.parse_args()
    torch.set_num_threads(1)
    runner, out = PictureRunner(args.base), Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    plain = runner.draw([caption for caption in CAPTIONS for _ in range(PER_ROW)])
    sheet = contact_sheet(CAPTIONS, [(BASE, plain)], per_row=PER_ROW)
    atomic_write_bytes(out / "base.png", png_bytes(sheet))
    if args.zoo is None:
        return
    with Zoo.open(args.zoo, read_only=True) as zoo:
        entries = sorted(zoo.entries(), key=lambda entry: entry.task)
        chosen = random.Random(0).sample(entries, min(args.styles, len(entries)))
        columns = {"adapter": [zoo.load(entry.id) for entry in chosen]}
        atomic_write_bytes(out / "zoo.png", style_sheet(runner, chosen, columns))
        if args.generator is None:
            return
        unseen = sorted(zoo.entries(split="unseen_composition"), key=lambda entry: entry.task)
        chosen = random.Random(0).sample(unseen, min(args.styles, len(unseen)))
        columns = {
            "from its description alone": generated(args.generator, chosen),
            "trained on its pictures": [zoo.load(entry.id) for entry in chosen],
        }
        atomic_write_bytes(out / "generated.png", style_sheet(runner, chosen, columns))


def generated(generator: str, entries: Sequence[ZooEntry]) -> list[Adapter]:
    """An adapter for each entry, from its first description."""
    from lora_gen.pipeline import LoraGenPipeline

    pipe = LoraGenPipeline.from_pretrained(generator)
    return [
        pipe(e.descriptions[0], generator=torch.Generator().manual_seed(i)).adapters[0]
        for i, e in enumerate(entries)
    ]


def style_sheet(
    runner: PictureRunner, entries: Sequence[ZooEntry], adapters: Mapping[str, Sequence[Adapter]]
) -> bytes:
    """Base, the style's own drawing, and what each column's adapters draw, as a PNG file.

    Args:
        runner: The base.
        entries: A row each.
        adapters: Title of a column -> an adapter for each row.
    """
    styles = styles_by_name()
    columns: dict[str, list[torch.Tensor]] = {
        BASE: [],
        STYLE: [],
        **{name: [] for name in adapters},
    }
    for row, entry in enumerate(entries):
        captions = [scene.caption for scene in scenes_of(entry.task, PER_ROW, TEST_SEED)]
        drawn = runner.draw(captions)
        columns[BASE].append(drawn)
        columns[STYLE].append(styles[entry.task](drawn))
        for name, many in adapters.items():
            columns[name].append(runner.draw(captions, many[row]))
    titles = [f"{entry.task}: {entry.descriptions[0]}" for entry in entries]
    found = [(title, torch.cat(parts)) for title, parts in columns.items()]
    return png_bytes(contact_sheet(titles, found, per_row=PER_ROW))


if __name__ == "__main__":
    main()
