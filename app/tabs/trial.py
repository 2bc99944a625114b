"""What base and adapters answer to a visitor's inputs, as texts or as pictures."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from typing import Any

from app.pictures.findings import note
from app.pictures.markup import add, element, render
from app.service.service import AppService
from app.service.sessions import Session
from app.tabs.common import answer_table


def trial(
    service: AppService,
    session: Session,
    adapters: Sequence[str],
    inputs: Any,
    *,
    titles: Sequence[str] = (),
    **options: Any,
) -> Iterator[str]:
    """Markup that grows with every answer; of a base that draws, one sheet of pictures.

    Args:
        service: What answers.
        session: Whose adapters they are.
        adapters: References of adapters of one base.
        inputs: What is asked, one a line.
        titles: Heads of the adapters' columns, where they have shorter ones.
        options: `strength` and `blend`.

    Raises:
        LoraGenError: A value is unusable, or the adapters do not fit together.
    """
    if adapters and service.draws(service.resolve(session, str(adapters[0]))[2].base):
        yield note("Drawing …", kind="busy")
        yield _sheet(service.pictures(session, adapters, inputs, **options), str(inputs))
        return
    head, rows = service.answers(session, adapters, inputs, **options)
    shown = [*head[:2], *titles] if titles else head
    found: list[list[str]] = []
    for row in rows:
        found.append(row)
        yield answer_table(shown, found)


def _sheet(png: bytes, captions: str) -> str:
    """Markup of a picture that we drew ourselves."""
    box = element("div", class_="lg-scroll", role="region", aria_label="Pictures", tabindex="0")
    data = base64.b64encode(png).decode()
    add(box, "img", src=f"data:image/png;base64,{data}", alt=f"Base and adapters draw: {captions}")
    return render(box)
