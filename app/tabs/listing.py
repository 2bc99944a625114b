"""Zoo entries as a list whose rows open them; shared by the Zoo and the Search tab."""

from __future__ import annotations

from collections.abc import Sequence

from app.pictures.markup import add, element, render
from lora_gen.zoo.entry import ZooEntry

SHOWN = 60


def entry_list(
    rows: Sequence[tuple[ZooEntry, str, str]],
    *,
    label: str,
    total: int = 0,
    heading: bool = False,
) -> str:
    """Markup of the list.

    Args:
        rows: (entry, the wording to show, a short measure such as a cosine).
        label: What the list is, for screen readers.
        total: How many there are, when fewer are shown.
        heading: Whether the label is shown above the list.
    """
    box = element("div", class_="lg-list", role="region", aria_label=label)
    if heading:
        add(box, "h4", label)
    listed = add(box, "ul")
    for entry, wording, measure in rows:
        item = add(listed, "li")
        words = add(item, "div", class_="lg-words")
        add(words, "span", wording, class_="lg-wording")
        accuracy = "" if entry.accuracy is None else f" · accuracy {entry.accuracy:.0%}"
        split = entry.split.replace("_", " ")
        add(words, "small", f"{split} · {entry.base} · rank {entry.rank}{accuracy}{measure}")
        for verb in ("inspect", "try"):
            title = f"{verb.capitalize()} {entry.task}"
            button = add(item, "button", verb.capitalize(), type="button", aria_label=title)
            button.set("data-id", entry.id)
            button.set("data-verb", verb)
    if total > len(rows):
        add(box, "p", f"{len(rows)} of {total} shown. Narrow the filter to see others.")
    return render(box)


ON_CLICK = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-id]');
  if (button) trigger('click', {id: button.dataset.id, verb: button.dataset.verb});
});
"""
"""Ours alone, no value goes into it: tells the page which button of which row was clicked."""
