"""Two maps of the same sentences, and two lists of neighbors, side by side."""

from __future__ import annotations

from collections import Counter

from app.pictures.markup import render, table
from app.pictures.zoo_map import Point, zoo_map
from app.service.lens import Look, Side

BEFORE, AFTER = "all-MiniLM-L6-v2 as it is", "Under the lens"


def lens_maps(look: Look) -> tuple[str, str]:
    """Markup of the map before and the map after, colored by the nearest label."""
    return _map(look, look.base, BEFORE), _map(look, look.lens, AFTER)


def neighbors(look: Look) -> str:
    """Markup of what is nearest to the query on either side."""
    rows = [
        [str(rank), before, f"{near:.2f}", after, f"{under:.2f}"]
        for rank, ((before, near), (after, under)) in enumerate(
            zip(look.base.nearest, look.lens.nearest, strict=True), start=1
        )
    ]
    head = ["", BEFORE, "cosine", AFTER, "cosine"]
    return render(table(head, rows, label=f"Nearest to: {look.query}"))


def _map(look: Look, side: Side, name: str) -> str:
    counts = Counter(side.labels)
    points = [
        Point(id=str(i), x=x, y=y, group=label, title=f"{sentence} ({label})")
        for i, (sentence, (x, y), label) in enumerate(
            zip(look.sentences, side.places, side.labels, strict=True)
        )
    ]
    return zoo_map(
        points,
        {label: counts[label] for label in look.names},
        caption=f"{name}: the two directions in which the sentences differ most; a color is the "
        "label whose words are nearest.",
    )
