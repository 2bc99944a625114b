"""The generated candidates beside each other: quality, nearest of the zoo, size."""

from __future__ import annotations

from collections.abc import Sequence

from app.pictures.markup import render, table
from app.service.candidates import Candidate, says

_SHOWN = 60


def candidate_table(made: Sequence[Candidate]) -> str:
    """Markup of a row for each candidate."""
    head = ["candidate", "predicted quality", "nearest in the zoo, by weights", "cosine", "norm"]
    rows = [
        [f"#{number}", str(one.quality), *_nearest(one), f"{one.norm:.2f}"]
        for number, one in enumerate(made, start=1)
    ]
    return render(table(head, rows, label="Candidates"))


def _nearest(one: Candidate) -> tuple[str, str]:
    if not one.neighbors:
        return "none of this base", ""
    text = " ".join(says(one.neighbors[0].entry).split())
    shown = text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
    return shown, f"{one.neighbors[0].cosine:.2f}"
