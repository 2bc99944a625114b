"""The zoo as a map: a point for each adapter, near each other when their weights are alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.pictures.markup import Element, add, element, render

WIDTH, HEIGHT, MARGIN = 720, 440, 24

ON_CLICK = """
const open = (event) => {
  const point = event.target.closest('[data-id]');
  if (point) trigger('click', {id: point.getAttribute('data-id')});
};
element.addEventListener('click', open);
"""
"""Ours alone, no value goes into it: tells the page which point was clicked."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One adapter on the map."""

    id: str
    x: float
    y: float
    group: str
    """What its color stands for."""

    title: str
    """What it does; untrusted text."""

    own: bool = False
    """Whether the visitor made it."""


def zoo_map(points: Sequence[Point], counts: Mapping[str, int], *, caption: str) -> str:
    """Markup of the map with its legend.

    Args:
        points: Adapters, the visitor's own ones last so that they lie on top.
        counts: Group -> number of adapters, in the legend's order.
        caption: What it shows, in a sentence.
    """
    figure = element("figure", class_="lg-figure")
    svg = add(
        figure,
        "svg",
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        class_="lg-map",
        role="img",
        aria_label=caption,
    )
    groups = list(counts)
    scale = _Scale(points)
    for point in points:
        _mark(svg, point, scale, groups)
    legend = add(figure, "ul", class_="lg-legend")
    for number, (group, count) in enumerate(counts.items()):
        entry = add(legend, "li")
        add(entry, "i", class_=f"lg-dot lg-group-{number % 6}", aria_hidden="true")
        add(entry, "span", f"{group.replace('_', ' ')} ({count})")
    if any(point.own for point in points):
        entry = add(legend, "li")
        add(entry, "i", class_="lg-dot lg-own", aria_hidden="true")
        add(entry, "span", "yours")
    add(figure, "figcaption", caption)
    return render(figure)


class _Scale:
    """Data coordinates to the drawing's, both axes by the same factor."""

    def __init__(self, points: Sequence[Point]) -> None:
        xs, ys = [p.x for p in points] or [0.0], [p.y for p in points] or [0.0]
        self._x, self._y = min(xs), min(ys)
        self._kx = (WIDTH - 2 * MARGIN) / ((max(xs) - self._x) or 1.0)
        self._ky = (HEIGHT - 2 * MARGIN) / ((max(ys) - self._y) or 1.0)

    def __call__(self, point: Point) -> tuple[float, float]:
        x = MARGIN + (point.x - self._x) * self._kx
        return x, HEIGHT - MARGIN - (point.y - self._y) * self._ky


def _mark(svg: Element, point: Point, scale: _Scale, groups: list[str]) -> None:
    x, y = scale(point)
    if point.own:
        corners = (
            f"{x:.1f},{y - 11:.1f} {x + 11:.1f},{y:.1f} {x:.1f},{y + 11:.1f} {x - 11:.1f},{y:.1f}"
        )
        mark = add(svg, "polygon", points=corners, class_="lg-own", data_id=point.id)
    else:
        number = groups.index(point.group) % 6 if point.group in groups else 0
        mark = add(
            svg,
            "circle",
            cx=f"{x:.1f}",
            cy=f"{y:.1f}",
            r="6",
            class_=f"lg-group-{number}",
            data_id=point.id,
        )
    add(mark, "title", point.title)
