"""What base and adapters answer to a visitor's inputs, as texts or as pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from app.pictures.findings import note
from app.service.service import AppService
from app.service.sessions import Session
from app.tabs.answers import answer_table, picture_table


def trial(
    service: AppService,
    session: Session,
    adapters: Sequence[str],
    inputs: Any,
    *,
    titles: Sequence[str] = (),
    **options: Any,
) -> Iterator[str]:
    """Markup that grows with every answer, a text or, of a base that draws, a picture.

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
    draws = adapters and service.draws(service.resolve(session, str(adapters[0]))[2].base)
    if draws:
        yield note("Drawing …", kind="busy")
    ask = service.drawings if draws else service.answers
    head, rows = ask(session, adapters, inputs, **options)
    shown = [*head[:2], *titles] if titles else head
    found: list[Any] = []
    for row in rows:
        found.append(row)
        yield picture_table(shown, found) if draws else answer_table(shown, found)
