"""An adapter as a heat map: layers down, kinds of modules across, color for the size of change."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from app.pictures.markup import Element, add, element, render

_LAYER = re.compile(r"\.(\d+)\.")
_MOST_ROWS = 64
_ORDER = (
    *("conv", "self q", "self k", "self v", "self out"),
    *("cross q", "cross k", "cross v", "cross out"),
    *("q", "k", "v", "qkv", "o", "out", "gate", "up", "down", "fc1", "fc2"),
)
"""Kinds of modules in the order that a signal meets them; others follow as they come."""

_SHORT = {"_proj": "", "self_attn.": "", "mlp.": "", "attention.": ""}

_BLOCK = re.compile(r"(down|mid|up)_blocks?(?:\.(\d+))?\.(.+)")
"""A module of a UNet: its side of the U, its block, its path in the block."""

_ATTENTION = {"attn1": "self", "attn2": "cross"}
_SIDES = ("down", "mid", "up", "text", "ends")


def heat_map(norms: Mapping[str, float], *, caption: str) -> str:
    """Markup of the map.

    Args:
        norms: Module path -> Frobenius norm of its delta weight.
        caption: What it shows, in a sentence.
    """
    figure = element("figure", class_="lg-figure")
    box = add(figure, "div", class_="lg-scroll", tabindex="0", role="region", aria_label=caption)
    largest = _grid(box, norms, caption)
    foot = add(figure, "figcaption", caption)
    legend = add(foot, "span", class_="lg-ramp", aria_hidden="true")
    add(legend, "span", "0")
    add(legend, "i")
    add(legend, "span", f"{largest:.2f}")
    return render(figure)


def _grid(parent: Element, norms: Mapping[str, float], caption: str) -> float:
    """The cells; the norm that has the deepest color. Modules of one cell count together."""
    cells: dict[tuple[str, str], list[tuple[str, float]]] = {}
    for module, norm in norms.items():
        cells.setdefault(_place(module), []).append((module, norm))
    values = {place: math.hypot(*(norm for _, norm in found)) for place, found in cells.items()}
    rows = sorted(dict.fromkeys(row for row, _ in cells), key=_row_rank)
    columns = list(dict.fromkeys(column for _, column in cells))
    columns.sort(key=lambda column: _rank(_short(column)))
    largest = max(values.values(), default=0.0) or 1.0
    grid = add(parent, "table", class_="lg-heat", aria_label=caption)
    head = add(add(grid, "thead"), "tr")
    add(head, "th", "layer", scope="col")
    for column in columns:
        add(head, "th", _short(column), scope="col")
    body = add(grid, "tbody")
    for row in rows[:_MOST_ROWS]:
        line = add(body, "tr")
        add(line, "th", row, scope="row")
        for column in columns:
            if (row, column) in cells:
                norm, found = values[(row, column)], cells[(row, column)]
                share = min(1.0, max(0.0, norm / largest))
                named = found[0][0] if len(found) == 1 else f"{len(found)} modules together"
                cell = add(line, "td", style=f"--v:{share:.3f}", title=f"{named}: {norm:.3f}")
                add(cell, "span", f"{norm:.1f}", class_="lg-hot" if share > 0.55 else "lg-cool")
            else:
                add(line, "td", class_="lg-none")
    return max(values.values(), default=0.0)


def _place(module: str) -> tuple[str, str]:
    """(row, column) of a module: its layer, and its path without the layer.

    A UNet has too many paths for that: there it is the block, and what the module does in it.
    """
    if block := _BLOCK.search(module):
        side, number, path = block.groups()
        return f"{side} {number}" if number else side, _kind(path)
    if module.endswith(("conv_in", "conv_out")):
        return "ends", "conv"
    found = _LAYER.search(module)
    if found is None:
        return "-", module
    layer = found.group(1)
    return f"text {layer}" if "text_encoder" in module else layer, module[found.end() :]


def _kind(path: str) -> str:
    """What a module of a UNet's block does."""
    parts = [part for part in path.split(".") if not part.isdigit()]
    if parts[-1].startswith("conv"):
        return "conv"
    sort = next((_ATTENTION[part] for part in parts if part in _ATTENTION), "")
    return f"{sort} {parts[-1].removeprefix('to_')}".strip()


def _row_rank(row: str) -> tuple[int, int, str]:
    """Layers by their number; then a UNet from its way down to its way up."""
    side, _, number = row.rpartition(" ") if row.rpartition(" ")[0] else (row, "", "0")
    place = _SIDES.index(side) + 1 if side in _SIDES else 0
    if row.isdigit():
        return 0, int(row), ""
    return place or len(_SIDES) + 1, int(number) if number.isdigit() else 0, row


def _rank(short: str) -> int:
    return _ORDER.index(short) if short in _ORDER else len(_ORDER)


def _short(column: str) -> str:
    for long, short in _SHORT.items():
        column = column.replace(long, short)
    return column if len(column) <= 16 else f"…{column[-15:]}"
