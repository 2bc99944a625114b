"""Pictures of a Diffusers base with and without adapters: the measured effect, to look at."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.base_model import COMPONENTS, resolve_base
from lora_gen.adapter.stacked import StackedFactors, stack_adapters, stacked_adapters
from lora_gen.errors import AdapterMismatchError, BaseModelError

if TYPE_CHECKING:
    from PIL.Image import Image

DEFAULT_STEPS = 25
DEFAULT_GUIDANCE = 2.0
_MARGIN, _CELL = 8, 128


def load_pipeline(base: str | Path) -> Any:
    """A frozen text-to-image pipeline, from a folder, an embedded id or a hub id.

    Raises:
        BaseModelError: There is no such pipeline.
    """
    from diffusers import AutoPipelineForText2Image

    path = resolve_base(str(base))
    try:
        with _only_errors():
            pipe = AutoPipelineForText2Image.from_pretrained(path, use_safetensors=True)
    except (OSError, ValueError) as error:
        raise BaseModelError(
            f"`{base}` is not a text-to-image pipeline that Diffusers can load: {error}"
        ) from error
    for part in pipe.components.values():
        if isinstance(part, nn.Module):
            part.eval().requires_grad_(False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@contextmanager
def _only_errors() -> Iterator[None]:
    """Without diffusers' warning that a tiny autoencoder is not the class of most pipelines."""
    from diffusers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def by_component(factors: StackedFactors) -> dict[str, dict[str, tuple[Tensor, Tensor]]]:
    """A stack's factors for each component of a pipeline, under the component's own module paths.

    Raises:
        AdapterMismatchError: A path does not begin with a component.
    """
    found: dict[str, dict[str, tuple[Tensor, Tensor]]] = {}
    for name, pair in factors.items():
        component, _, module = name.partition(".")
        if component not in COMPONENTS or not module:
            raise AdapterMismatchError(
                f"`{name}` does not begin with a component of a pipeline; components are "
                f"{', '.join(COMPONENTS)}. Use an adapter made for this base."
            )
        found.setdefault(component, {})[module] = pair
    return found


@contextmanager
def adapted(pipe: Any, adapter: Adapter | None) -> Iterator[None]:
    """The pipeline with one adapter inside the `with` block; its weights are not changed.

    Raises:
        AdapterMismatchError: The adapter targets what the pipeline does not have.
    """
    with ExitStack() as stack:
        parts = by_component(stack_adapters([adapter])) if adapter is not None else {}
        for component, factors in parts.items():
            model = getattr(pipe, component, None)
            if model is None:
                raise AdapterMismatchError(
                    f"The adapter targets `{component}`, which the base does not have. "
                    "Use an adapter made for this base."
                )
            stack.enter_context(stacked_adapters(model, factors))
        yield


class PictureRunner:
    """Draws captions with a base, alone or under an adapter."""

    def __init__(self, base: str | Path) -> None:
        self.pipe = load_pipeline(base)

    @torch.no_grad()
    def draw(
        self,
        captions: Sequence[str],
        adapter: Adapter | None = None,
        *,
        seed: int = 0,
        steps: int = DEFAULT_STEPS,
        guidance: float = DEFAULT_GUIDANCE,
    ) -> Tensor:
        """Pictures (N, 3, H, W) in [0, 1]; picture `i` starts from the noise of seed + i.

        Args:
            captions: What to draw, one picture each.
            adapter: Applied to the base for these pictures.
            seed: The same seed starts base and adapter from the same noise.
            steps: Steps of the base's own noise scheduler.
            guidance: Weight of the caption against none; 1 is plain sampling.

        Raises:
            AdapterMismatchError: The adapter does not fit the base.
        """
        generators = [torch.Generator().manual_seed(seed + i) for i in range(len(captions))]
        with adapted(self.pipe, adapter):
            pictures: Tensor = self.pipe(
                prompt=list(captions),
                num_inference_steps=steps,
                guidance_scale=guidance,
                generator=generators,
                output_type="pt",
            ).images
        return pictures.float().clamp(0, 1)


def contact_sheet(
    captions: Sequence[str], columns: Sequence[tuple[str, Tensor]], *, per_row: int = 4
) -> Image:
    """One picture of many: a row for each caption, a block of `per_row` pictures for each column.

    Args:
        captions: Titles of the rows.
        columns: Title and pictures (captions * per_row, 3, H, W) of each column, caption-major.
        per_row: Pictures of one caption in one column.
    """
    from PIL import Image, ImageDraw

    side = max(_CELL, columns[0][1].shape[-1])
    block = per_row * side + (per_row - 1) * 2
    row_height = side + 2 * _MARGIN + 14
    width = len(columns) * (block + 2 * _MARGIN) + _MARGIN
    sheet = Image.new("RGB", (width, len(captions) * row_height + 24), "white")
    pen = ImageDraw.Draw(sheet)
    for place, (title, pictures) in enumerate(columns):
        left = _MARGIN + place * (block + 2 * _MARGIN)
        pen.text((left, 6), title, fill="black")
        for row, caption in enumerate(captions):
            top = 24 + row * row_height
            pen.text((left, top), caption if place == 0 else "", fill="dimgray")
            for i in range(per_row):
                tile = _to_image(pictures[row * per_row + i])
                tile = tile.resize((side, side), Image.Resampling.NEAREST)
                sheet.paste(tile, (left + i * (side + 2), top + 14))
    return sheet


def png_bytes(image: Image) -> bytes:
    """The image as a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def picture_png(picture: Tensor) -> bytes:
    """One picture (3, H, W) in [0, 1] as a PNG file."""
    return png_bytes(_to_image(picture))


def _to_image(picture: Tensor) -> Image:
    from PIL import Image

    return Image.fromarray((picture * 255).round().byte().permute(1, 2, 0).cpu().numpy())
