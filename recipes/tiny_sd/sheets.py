"""Pictures to look at: what the base draws, and styles beside what their adapters draw.

python -m recipes.tiny_sd.sheets --zoo build/tiny_sd/zoo --out build/tiny_sd/reports
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import torch

from lora_gen.evaluation.pictures import PictureRunner, contact_sheet, png_bytes
from lora_gen.files import atomic_write_bytes
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


def main() -> None:
    """Draw both sheets."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", default="tiny_sd")
    parser.add_argument("--zoo")
    parser.add_argument("--out", required=True)
    parser.add_argument("--styles", type=int, default=16)
    args = parser.parse_args()
    torch.set_num_threads(1)
    runner, out = PictureRunner(args.base), Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    plain = runner.draw([caption for caption in CAPTIONS for _ in range(PER_ROW)])
    sheet = contact_sheet(CAPTIONS, [("base", plain)], per_row=PER_ROW)
    atomic_write_bytes(out / "base.png", png_bytes(sheet))
    if args.zoo is None:
        return
    styles = styles_by_name()
    with Zoo.open(args.zoo, read_only=True) as zoo:
        entries = sorted(zoo.entries(), key=lambda entry: entry.task)
        chosen = random.Random(0).sample(entries, min(args.styles, len(entries)))
        rows: dict[str, list[torch.Tensor]] = {"base": [], "the style itself": [], "adapter": []}
        for entry in chosen:
            captions = [scene.caption for scene in scenes_of(entry.task, PER_ROW, TEST_SEED)]
            drawn = runner.draw(captions)
            rows["base"].append(drawn)
            rows["the style itself"].append(styles[entry.task](drawn))
            rows["adapter"].append(runner.draw(captions, zoo.load(entry.id)))
    columns = [(title, torch.cat(parts)) for title, parts in rows.items()]
    sheet = contact_sheet([entry.task for entry in chosen], columns, per_row=PER_ROW)
    atomic_write_bytes(out / "zoo.png", png_bytes(sheet))


if __name__ == "__main__":
    main()
