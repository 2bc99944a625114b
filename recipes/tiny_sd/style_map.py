"""A map of styles: adapters near each other change the base alike, and each is what it draws.

python -m recipes.tiny_sd.style_map --zoo build/tiny_sd/zoo --out build/tiny_sd/reports/map.png

Coordinates are the two leading components of the adapters' cosines (kernel PCA), spread evenly by
rank; a style that finds its place taken moves to the nearest free one.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from lora_gen.adapter.stack import AdapterStack
from lora_gen.evaluation.pictures import PictureRunner, png_bytes
from lora_gen.files import atomic_write_bytes
from lora_gen.zoo.store import Zoo

CAPTION = "a blue star and a red circle"
_TILE, _GAP, _TEXT = 80, 6, 12
_WIDE = 1.5
"""Columns for each row."""


def plane_of(gram_BB: Tensor) -> Tensor:
    """Coordinates (B, 2) in [0, 1] from inner products, each axis spread evenly by rank."""
    length_B = gram_BB.diagonal().clamp_min(1e-30).sqrt()
    cosine_BB = gram_BB / length_B[:, None] / length_B
    centered_BB = cosine_BB - cosine_BB.mean(0) - cosine_BB.mean(1)[:, None] + cosine_BB.mean()
    _, vectors_BB = torch.linalg.eigh(centered_BB)
    ranks_B2 = vectors_BB[:, -2:].flip(1).argsort(0).argsort(0)
    return ranks_B2.double() / max(1, len(gram_BB) - 1)


def cells_of(points_B2: Tensor, columns: int, rows: int) -> list[tuple[int, int]]:
    """A free cell (column, row) for each point, as near to it as those before it left."""
    spots = torch.tensor([(x, y) for x in range(columns) for y in range(rows)]).double()
    wanted = points_B2 * torch.tensor([columns - 1.0, rows - 1.0]).double()
    free = torch.ones(len(spots), dtype=torch.bool)
    found = []
    for point in wanted:
        far = (spots - point).square().sum(1).masked_fill(~free, math.inf)
        best = int(far.argmin())
        free[best] = False
        found.append((int(spots[best, 0]), int(spots[best, 1])))
    return found


def draw_map(names: Sequence[str], pictures: Tensor, points_B2: Tensor) -> bytes:
    """The map as a PNG file.

    Args:
        names: Of the styles.
        pictures: What each draws, (B, 3, H, W) in [0, 1].
        points_B2: Where each lies, in [0, 1].
    """
    from PIL import Image, ImageDraw

    columns = math.ceil(math.sqrt(len(names) * _WIDE))
    rows = math.ceil(len(names) / columns)
    across, down = _TILE + _GAP, _TILE + _GAP + _TEXT
    sheet = Image.new("RGB", (columns * across + _GAP, rows * down + _GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for name, picture, (x, y) in zip(
        names, pictures, cells_of(points_B2, columns, rows), strict=True
    ):
        left, top = _GAP + x * across, _GAP + y * down
        tile = Image.fromarray((picture * 255).round().byte().permute(1, 2, 0).numpy())
        sheet.paste(tile.resize((_TILE, _TILE), Image.Resampling.NEAREST), (left, top))
        pen.text((left, top + _TILE), _fitted(name, pen.textlength), fill="dimgray")
    return png_bytes(sheet)


def _fitted(name: str, length: Callable[[str], float]) -> str:
    """As much of a name as stands under its tile."""
    shown = name.replace("_", " ").replace("+", " + ")
    if length(shown) <= _TILE:
        return shown
    while length(shown + "…") > _TILE:
        shown = shown[:-1]
    return shown + "…"


def main() -> None:
    """Draw every adapter's picture and lay them out."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", default="tiny_sd")
    parser.add_argument("--zoo", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--steps", type=int, default=12)
    args = parser.parse_args()
    torch.set_num_threads(1)
    runner = PictureRunner(args.base)
    with Zoo.open(args.zoo, read_only=True) as zoo:
        entries = sorted(zoo.entries(), key=lambda entry: entry.task)
        adapters = [zoo.load(entry.id) for entry in entries]
    stack = AdapterStack(adapters, dtype=torch.float32)
    pictures = [runner.draw([CAPTION], adapter, steps=args.steps) for adapter in adapters]
    points = plane_of(stack.inner_products(stack))
    out = Path(args.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    made = draw_map([entry.task for entry in entries], torch.cat(pictures), points)
    atomic_write_bytes(out, made)


if __name__ == "__main__":
    main()
