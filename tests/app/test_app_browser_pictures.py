"""A style in a real browser: described, drawn beside the base, taken home and loaded."""

import base64
import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
from app_factories import download, open_tab

pytestmark = [pytest.mark.browser, pytest.mark.slow]

STYLE = "a bold blue line around each shape"
CAPTION = "an orange circle"


def _drawn(page: Any, table: str) -> list[Any]:
    """What the base drew, and what base + adapter drew, each (H, W, 3) as shown on the page."""
    import numpy as np
    from PIL import Image

    page.wait_for_function(f"document.querySelector('{table} img')?.naturalWidth > 0")
    sources = [image.get_attribute("src") for image in page.query_selector_all(f"{table} img")]
    contents = [base64.b64decode(source.split("base64,")[1]) for source in sources]
    return [np.asarray(Image.open(io.BytesIO(c)).convert("RGB")).astype(float) for c in contents]


def _diffusers_picture(folder: Path) -> Any:
    """What Diffusers itself draws with the adapter folder."""
    import numpy as np
    import torch
    from diffusers import DiffusionPipeline

    from lora_gen import resolve_base

    pipe = DiffusionPipeline.from_pretrained(resolve_base("tiny_sd"))
    pipe.load_lora_weights(
        str(folder), weight_name="pytorch_lora_weights.safetensors", use_safetensors=True
    )
    seed = torch.Generator().manual_seed(0)
    made = pipe(CAPTION, num_inference_steps=25, guidance_scale=2.0, generator=seed).images[0]
    return np.asarray(made).astype(float)


def test_downloaded_style_draws_in_diffusers_what_the_page_showed(
    opened: Any, tmp_path: Path
) -> None:
    opened.check("#base input[value=tiny_sd]")
    opened.fill("#description textarea", STYLE)
    opened.fill("#generate-inputs textarea", CAPTION)
    opened.click("#generate")
    first = _drawn(opened, "#answers")
    path = download(opened, "#download", tmp_path)
    open_tab(opened, "Try")
    opened.wait_for_selector("#try-adapters .token")
    opened.fill("#try-inputs textarea", CAPTION)
    opened.click("#answer")
    base, styled = _drawn(opened, "#try-answers")
    assert (styled == first[1]).all()
    assert abs(styled - base).mean() > 2
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path)
    assert abs(_diffusers_picture(tmp_path / path.stem) - styled).max() <= 2
