"""Our pipeline with random weights: as fast as with trained ones, and any base will do."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lora_gen.adapter.base_model import BaseModelSpec
from lora_gen.codec.layout import TokenLayout
from lora_gen.models.recurrent_denoiser import RecurrentDenoiser
from lora_gen.pipeline import LoraGenPipeline
from lora_gen.pipeline_stream import StreamOptions, StreamRequest, stream_folder

BASES = Path(__file__).parent / "bases"
PROMPTS = ("Where is the parcel?", "I want my money back.", "Thanks, it arrived today.")


def large_generator(device: str = "cpu") -> LoraGenPipeline:
    """A generator for bases of billions of parameters: 512 wide, tokens of 1,024 weights."""
    torch.manual_seed(0)
    denoiser = RecurrentDenoiser(
        token_width=1024, hidden_dim=512, backbone_layers=4, denoiser_layers=2, num_heads=8
    )
    return LoraGenPipeline.build(denoiser.eval().requires_grad_(False).to(device))


def macs_a_token(denoiser: RecurrentDenoiser, memory: int) -> tuple[int, int]:
    """Multiply-adds of one token in products of matrices: once, and in each sampler step.

    Args:
        denoiser: The network.
        memory: Condition tokens, few enough that the sampler folds attention to them.
    """
    reading = {id(p) for n, p in denoiser.backbone.named_parameters() if "key_value" in n}
    inner, config = denoiser.denoiser, denoiser.config
    once = sum(p.numel() for p in denoiser.backbone.blocks.parameters() if id(p) not in reading)
    once += inner.input.weight.numel() + inner.output.weight.numel()
    width, columns = config.hidden_dim, config.num_heads * memory
    block = 2 * width * (config.ff_multiple * width) + 2 * width * columns
    return once, config.denoiser_layers * block + width * width


def generate(
    base: str, rank: int, steps: int, workers: int = 2, device: str = "cpu"
) -> Callable[[], dict[str, Any]]:
    """The work of one adapter from prompts alone, written to a folder that is deleted."""
    pipe = large_generator(device)
    spec = BaseModelSpec.from_config(BASES / base)
    layout = TokenLayout.build(spec, rank=rank, width=pipe.denoiser.config.token_width)
    values = sum(rank * (m.in_features + m.out_features) for m in layout.modules)
    request = StreamRequest(prompts=PROMPTS, base=spec, rank=rank, allow_untrained=True)
    options = StreamOptions(num_inference_steps=steps, workers=workers)

    with torch.no_grad():
        condition = pipe._request.encode(None, PROMPTS, None, spec)
        memory = int(pipe.denoiser.condition_encoder(condition)[1].sum())

    def work() -> dict[str, Any]:
        folder = Path(tempfile.mkdtemp())
        try:
            stream_folder(pipe, folder / "adapter", request, options=options)
        finally:
            shutil.rmtree(folder)
        once, step = macs_a_token(pipe.denoiser, memory)
        return {
            "values": values,
            "tokens": layout.num_tokens,
            "generator_parameters": sum(p.numel() for p in pipe.denoiser.parameters()),
            "tera_operations": round(2e-12 * layout.num_tokens * (once + steps * step), 3),
        }

    return work
