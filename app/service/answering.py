"""A base beside base + adapters on a visitor's inputs: the measured effect, not a prediction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from app.service.models import Models
from app.service.sessions import Session
from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.algebra import add, scale
from lora_gen.errors import AdapterMismatchError, BaseModelError

BASE_ALONE = "base alone"
BLEND = "all together"
MAX_ADAPTERS = 4


def common_base(adapters: Mapping[str, Adapter]) -> str:
    """The base that all adapters name.

    Raises:
        AdapterMismatchError: There is no adapter, there are too many, or they name several bases.
        BaseModelError: One names none.
    """
    if not adapters:
        raise AdapterMismatchError("No adapter is chosen. Pick one, or generate one first.")
    if len(adapters) > MAX_ADAPTERS:
        raise AdapterMismatchError(
            f"{len(adapters)} adapters are chosen, but at most {MAX_ADAPTERS} are compared "
            "at once. Take some away."
        )
    bases = {adapter.base for adapter in adapters.values()}
    if len(bases) > 1:
        names = ", ".join(sorted(str(base) for base in bases))
        raise AdapterMismatchError(
            f"The adapters are made for different bases ({names}). Choose those of one base."
        )
    base = bases.pop()
    if base is None:
        raise BaseModelError("The adapter does not name its base, so nothing can answer with it.")
    return base


def columns_of(
    adapters: Mapping[str, Adapter], *, strength: float, blend: bool
) -> dict[str, Adapter | None]:
    """Title -> adapter at its strength, the bare base first; `blend` adds the sum of all."""
    scaled = {title: scale(adapter, strength) for title, adapter in adapters.items()}
    columns: dict[str, Adapter | None] = {BASE_ALONE: None, **scaled}
    if blend and len(scaled) > 1:
        columns[BLEND] = add(list(scaled.values()))
    return columns


def answer_rows(
    models: Models, base: str, columns: Mapping[str, Adapter | None], inputs: Sequence[str]
) -> Iterator[list[str]]:
    """For each input, as soon as it is there: the input and one answer for each column.

    Raises:
        AdapterMismatchError: An adapter does not fit the base.
        BaseModelError: The base is not allowed, cannot be loaded, or draws.
    """
    if models.spec(base).kind == "diffusers":
        raise BaseModelError(
            f"`{base}` draws pictures, so it answers nothing in words. Ask `draw_captions`."
        )
    for text in inputs:
        with models.runner(base) as runner:
            answers = [runner.answer([text], adapter)[0] for adapter in columns.values()]
        yield [text, *answers]


def picture_rows(
    models: Models, base: str, columns: Mapping[str, Adapter | None], captions: Sequence[str]
) -> Iterator[tuple[str, list[bytes]]]:
    """For each caption, as soon as they are drawn: it, and a PNG of each column.

    The pictures of a caption start from the same noise, which is that of `draw_sheet`.

    Raises:
        AdapterMismatchError: An adapter does not fit the base.
        BaseModelError: The base is not allowed, or cannot be loaded.
    """
    from lora_gen.evaluation.pictures import picture_png

    for seed, caption in enumerate(captions):
        with models.drawer(base) as drawer:
            drawn = [drawer.draw([caption], adapter, seed=seed) for adapter in columns.values()]
        yield caption, [picture_png(pictures[0]) for pictures in drawn]


def draw_sheet(
    models: Models, base: str, columns: Mapping[str, Adapter | None], captions: Sequence[str]
) -> bytes:
    """A PNG of what the base draws for each caption in each column, all from the same noise.

    Raises:
        AdapterMismatchError: An adapter does not fit the base.
        BaseModelError: The base is not allowed, or cannot be loaded.
    """
    from lora_gen.evaluation.pictures import contact_sheet, png_bytes

    with models.drawer(base) as drawer:
        drawn = [(title, drawer.draw(captions, adapter)) for title, adapter in columns.items()]
    return png_bytes(contact_sheet(captions, drawn, per_row=1))


def keep_sheet(session: Session, png: bytes) -> Path:
    """The file of a visitor's latest contact sheet."""
    with session.work():
        new, folder = session.new_folder()
        for old in session.folder.glob("drawn-*.png"):
            old.unlink(missing_ok=True)
        path = folder.parent / f"drawn-{new}.png"
        path.write_bytes(png)
        return path
