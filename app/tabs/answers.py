"""What base and adapters answer, side by side: texts, pictures, and what is known of candidates."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from app.pictures.markup import Element, add, element, render


def answer_table(head: list[str], rows: list[list[str]]) -> str:
    """Markup of answers: a table on a wide screen, cards on a phone."""
    box, body = comparison(head, label="Answers")
    for row in rows:
        line = add(body, "tr")
        for name, cell in zip(head, row, strict=True):
            known = "lg-given" if name == "input" else "lg-answer"
            add(line, "td", cell or "(no answer)", data_label=name, class_=known)
    return render(box)


def picture_table(head: list[str], rows: Sequence[tuple[str, list[bytes]]]) -> str:
    """Markup of pictures: a row for each caption, a column for the base and each adapter.

    Args:
        head: Titles of the columns, that of the captions first.
        rows: (caption, PNG of each column); pictures that we drew ourselves.
    """
    box, body = comparison(head, label="Pictures")
    for caption, pictures in rows:
        line = add(body, "tr")
        add(line, "td", caption, data_label=head[0], class_="lg-given")
        for name, png in zip(head[1:], pictures, strict=True):
            cell = add(line, "td", data_label=name, class_="lg-drawn")
            data = base64.b64encode(png).decode()
            add(cell, "img", src=f"data:image/png;base64,{data}", alt=f"{caption}, by {name}")
    return render(box)


def comparison(head: list[str], *, label: str) -> tuple[Element, Element]:
    """(a box with a table that becomes cards on a phone, the table's body)."""
    box = element("div", class_="lg-answers", role="region", aria_label=label, tabindex="0")
    made = add(box, "table")
    top = add(add(made, "thead"), "tr")
    for name in head:
        add(top, "th", name, scope="col")
    return box, add(made, "tbody")
