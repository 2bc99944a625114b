"""The generated candidates beside each other: quality, nearest of the zoo, size."""

from __future__ import annotations

from collections.abc import Sequence

from app.pictures.markup import Element, add, render
from app.service.candidates import Candidate, says
from app.service.quality import Forecast
from app.tabs.answers import comparison

_SHOWN = 60


def candidate_table(made: Sequence[Candidate]) -> str:
    """Markup of a row for each candidate; cards on a phone."""
    head = ["candidate", "predicted quality", "nearest in the zoo", "cosine", "norm"]
    box, body = comparison(head, label="Candidates")
    box.set("class", "lg-answers lg-made")
    for number, one in enumerate(made, start=1):
        line = add(body, "tr")
        add(line, "td", f"#{number}", data_label=head[0])
        _quality(add(line, "td", data_label=head[1]), one.quality)
        for name, cell in zip(head[2:], (*_nearest(one), f"{one.norm:.2f}"), strict=True):
            add(line, "td", cell, data_label=name)
    return render(box)


def _quality(cell: Element, forecast: Forecast) -> None:
    """The forecast in words; where it has numbers, as a bar with its interval too."""
    box = add(cell, "div")
    add(box, "span", str(forecast))
    if forecast.accuracy is None or forecast.low is None or forecast.high is None:
        return
    low, high = max(0.0, forecast.low), min(1.0, forecast.high)
    style = f"--v:{forecast.accuracy:.3f};--low:{low:.3f};--high:{high:.3f}"
    track = add(box, "div", class_="lg-track lg-ours", style=style, aria_hidden="true")
    add(track, "span", class_="lg-bar")
    add(track, "b")


def _nearest(one: Candidate) -> tuple[str, str]:
    if not one.neighbors:
        return "none of this base", "-"
    text = " ".join(says(one.neighbors[0].entry).split())
    shown = text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
    return shown, f"{one.neighbors[0].cosine:.2f}"
