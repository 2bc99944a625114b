"""A lineage as a tree: as indented text, and as an SVG drawing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape

from lora_gen.weight_space.lineage import Relation

_ROW, _STEP, _WIDTH = 22, 28, 900
_COLORS: Mapping[str, str] = {
    "copy": "#9aa5b1",
    "scaled": "#9aa5b1",
    "variant": "#c9b458",
    "truncated": "#e0954a",
    "checkpoint": "#2563eb",
    "merged": "#7c6fb0",
}


def tree_rows(
    names: Sequence[str], relations: Sequence[Relation], *, related_only: bool = True
) -> list[tuple[int, str, Relation | None]]:
    """(depth, name, relation) of every adapter, parents before children.

    A merge hangs under the parent with the largest weight.

    Args:
        names: All adapters.
        relations: What `lineage` found.
        related_only: Leave out adapters without parents and children.
    """
    own = {relation.child: relation for relation in relations}
    children: dict[str, list[str]] = {}
    for relation in relations:
        children.setdefault(main_parent(relation), []).append(relation.child)
    roots = [n for n in names if n not in own and (n in children or not related_only)]

    def below(name: str, depth: int) -> Iterator[tuple[int, str, Relation | None]]:
        yield depth, name, own.get(name)
        for child in children.get(name, ()):
            yield from below(child, depth + 1)

    return [row for root in roots for row in below(root, 0)]


def main_parent(relation: Relation) -> str:
    """The parent with the largest weight."""
    return max(zip(relation.weights, relation.parents, strict=True))[1]


def said(relation: Relation) -> str:
    """The relation in words."""
    if relation.kind != "merged":
        return f"{relation.kind} of {relation.parents[0]}"
    parts = zip(relation.weights, relation.parents, strict=True)
    return "merged from " + " + ".join(f"{weight:.2f} {parent}" for weight, parent in parts)


def tree_svg(
    rows: Sequence[tuple[int, str, Relation | None]], labels: Mapping[str, str] | None = None
) -> str:
    """The rows as an SVG document, one line each, colored by kind."""
    named = labels or {}
    height = _ROW * (len(rows) + 1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        'font-family="sans-serif" font-size="12">'
    ]
    last: dict[int, int] = {}
    for number, (depth, name, relation) in enumerate(rows):
        x, y = 12 + depth * _STEP, _ROW * (number + 1)
        color = _COLORS[relation.kind] if relation else "#4a9d6e"
        if depth:
            top, left = last[depth - 1], x - _STEP
            parts.append(f'<path d="M{left} {top}V{y}H{x}" fill="none" stroke="#b8c0c8"/>')
        parts.append(f'<circle cx="{x}" cy="{y}" r="4.5" fill="{color}"/>')
        words = named.get(name, name) + (f" ({_short(relation, named)})" if relation else "")
        parts.append(f'<text x="{x + 10}" y="{y + 4}">{escape(words)}</text>')
        last[depth] = y
    return "\n".join([*parts, "</svg>"]) + "\n"


def _short(relation: Relation, named: Mapping[str, str]) -> str:
    if relation.kind != "merged":
        return relation.kind
    parts = zip(relation.weights, relation.parents, strict=True)
    return "merged: " + " + ".join(f"{w:.2f} {named.get(p, p)}" for w, p in parts)
