"""The generator's report as bars: exact match of each method, one group for each split."""

from __future__ import annotations

from collections.abc import Mapping

from app.pictures.markup import add, element, render
from app.service.reports import METHODS, SPLITS

_SAYS = {
    "seen": "Tasks it learned from",
    "unseen_wording": "The same tasks in words it never read",
    "unseen_composition": "New combinations of known steps",
    "unseen_argument": "Known steps with new arguments",
    "unseen_primitive": "Steps it never saw",
}


def report_bars(scores: Mapping[str, Mapping[str, tuple[float, float, float]]]) -> str:
    """Markup of the chart, with the 95% interval of each bar in words and as a line."""
    figure = element("figure", class_="lg-figure lg-report")
    known = [split for split in SPLITS if split in scores]
    for split in known + [split for split in scores if split not in known]:
        part = add(figure, "section")
        add(part, "h4", _SAYS.get(split, split.replace("_", " ")))
        for method in METHODS:
            if method not in scores[split]:
                continue
            mean, low, high = scores[split][method]
            ours = " lg-ours" if method == "generated" else ""
            row = add(part, "div", class_=f"lg-row{ours}")
            add(row, "span", method, class_="lg-method")
            track = add(row, "span", class_="lg-track", aria_hidden="true")
            add(track, "i", style=f"--v:{mean:.3f}", class_="lg-bar")
            add(track, "b", style=f"--low:{low:.3f};--high:{high:.3f}")
            add(row, "span", f"{mean:.2f} [{low:.2f}, {high:.2f}]", class_="lg-value")
    add(figure, "figcaption", "Exact match, mean over tasks with its 95% interval.")
    return render(figure)
