"""An adapter as a heat map: layers down, kinds of modules across, color for the size of change."""

from __future__ import annotations

import re
from collections.abc import Mapping

from app.pictures.markup import Element, add, element, render

_LAYER = re.compile(r"\.(\d+)\.")
_MOST_ROWS = 64
_ORDER = ("q", "k", "v", "qkv", "o", "out", "gate", "up", "down", "fc1", "fc2")
"""Kinds of modules in the order that a signal meets them; others follow as they come."""

_SHORT = {"_proj": "", "self_attn.": "", "mlp.": "", "attention.": ""}


def heat_map(norms: Mapping[str, float], *, caption: str) -> str:
    """Markup of the map.

    Args:
        norms: Module path -> Frobenius norm of its delta weight.
        caption: What it shows, in a sentence.
    """
    figure = element("figure", class_="lg-figure")
    box = add(figure, "div", class_="lg-scroll", tabindex="0", role="region", aria_label=caption)
    _grid(box, norms, caption)
    foot = add(figure, "figcaption", caption)
    legend = add(foot, "span", class_="lg-ramp", aria_hidden="true")
    add(legend, "span", "0")
    add(legend, "i")
    add(legend, "span", f"{max(norms.values(), default=0):.2f}")
    return render(figure)


def _grid(parent: Element, norms: Mapping[str, float], caption: str) -> None:
    cells: dict[tuple[str, str], tuple[str, float]] = {}
    for module, norm in norms.items():
        cells[_place(module)] = (module, norm)
    rows = list(dict.fromkeys(row for row, _ in cells))
    columns = list(dict.fromkeys(column for _, column in cells))
    rows.sort(key=lambda row: (not row.isdigit(), int(row) if row.isdigit() else 0, row))
    columns.sort(key=lambda column: _rank(_short(column)))
    largest = max(norms.values(), default=0.0) or 1.0
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
                module, norm = cells[(row, column)]
                share = min(1.0, max(0.0, norm / largest))
                cell = add(line, "td", style=f"--v:{share:.3f}", title=f"{module}: {norm:.3f}")
                add(cell, "span", f"{norm:.1f}", class_="lg-hot" if share > 0.55 else "lg-cool")
            else:
                add(line, "td", class_="lg-none")


def _place(module: str) -> tuple[str, str]:
    """(row, column) of a module: its layer, and its path without the layer."""
    found = _LAYER.search(module)
    if found is None:
        return "-", module
    return found.group(1), module[found.end() :]


def _rank(short: str) -> int:
    return _ORDER.index(short) if short in _ORDER else len(_ORDER)


def _short(column: str) -> str:
    for long, short in _SHORT.items():
        column = column.replace(long, short)
    return column if len(column) <= 16 else f"…{column[-15:]}"
