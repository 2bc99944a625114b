"""Tiny-width pipelines of the real kinds load what we write, from tokens to predicted noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from adapter_factories import merged
from diffusers_factories import (
    loaded_pipeline,
    merged_noise,
    pipeline_spec,
    predicted_noise,
    tiny_pipeline,
)
from torch import Tensor

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.base_model import BaseModelSpec
from lora_gen.adapter.diffusers_format import WEIGHTS_NAME, read_diffusers, write_diffusers
from lora_gen.adapter.kohya_format import read_kohya, write_kohya
from lora_gen.codec.codec import AdapterCodec
from lora_gen.codec.layout import TokenLayout
from lora_gen.codec.scaling import TokenScaling

TARGETS = {
    "SDXL": ("to_q", "to_v", "to_out.0", "conv1"),
    "SD3": ("to_q", "add_k_proj", "to_out.0"),
    "Flux": ("to_q", "add_k_proj", "to_out.0", "proj_mlp"),
}
STATES = torch.linspace(-1, 1, 5 * 16).reshape(1, 5, 16)
POOLED = torch.linspace(-1, 1, 16)[None]
TIME = torch.tensor([3.0])


def _sdxl() -> tuple[Any, Callable[[Any], Tensor]]:
    from diffusers import DDIMScheduler, StableDiffusionXLPipeline, UNet2DConditionModel

    unet = UNet2DConditionModel(
        sample_size=8,
        layers_per_block=1,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=(2, 4),
        transformer_layers_per_block=(1, 2),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=64,
    )
    added = {"text_embeds": POOLED, "time_ids": torch.zeros(1, 6)}
    sample = torch.linspace(-1, 1, 256).reshape(1, 4, 8, 8)
    pipe = StableDiffusionXLPipeline(
        vae=None,
        text_encoder=None,
        text_encoder_2=None,
        tokenizer=None,
        tokenizer_2=None,
        unet=unet,
        scheduler=DDIMScheduler(),
        add_watermarker=False,
    )
    return pipe, lambda p: p.unet(sample, 3, STATES, added_cond_kwargs=added).sample


def _sd3() -> tuple[Any, Callable[[Any], Tensor]]:
    from diffusers import (
        FlowMatchEulerDiscreteScheduler,
        SD3Transformer2DModel,
        StableDiffusion3Pipeline,
    )

    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        caption_projection_dim=16,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        pos_embed_max_size=8,
    )
    sample = torch.linspace(-1, 1, 256).reshape(1, 4, 8, 8)
    pipe = StableDiffusion3Pipeline(transformer, FlowMatchEulerDiscreteScheduler(), *([None] * 7))
    return pipe, lambda p: p.transformer(sample, STATES, POOLED, TIME).sample


def _flux() -> tuple[Any, Callable[[Any], Tensor]]:
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        axes_dims_rope=(4, 4, 8),
    )
    sample = torch.linspace(-1, 1, 64).reshape(1, 16, 4)
    ids = {"img_ids": torch.zeros(16, 3), "txt_ids": torch.zeros(5, 3)}
    pipe = FluxPipeline(
        FlowMatchEulerDiscreteScheduler(), None, None, None, None, None, transformer
    )
    return pipe, lambda p: p.transformer(sample, STATES, POOLED, TIME, **ids).sample


BUILD = {"SDXL": _sdxl, "SD3": _sd3, "Flux": _flux}


def _built(name: str) -> tuple[Any, Callable[[Any], Tensor]]:
    torch.manual_seed(0)
    pipe, call = BUILD[name]()
    part = getattr(pipe, "unet", None) or pipe.transformer
    for parameter in part.eval().parameters():
        torch.nn.init.normal_(parameter, std=0.2)  # some begin at zero and would hide the adapter
    return pipe, call


@torch.no_grad()
@pytest.mark.parametrize("name", BUILD)
def test_a_pipelines_own_loader_predicts_with_the_decoded_weights(
    name: str, tmp_path: Path
) -> None:
    pipe, call = _built(name)
    pipe.save_pretrained(tmp_path / "base")
    spec = BaseModelSpec.from_config(tmp_path / "base", id="acme/tiny")
    layout = TokenLayout.build(spec, rank=2, width=16, targets=TARGETS[name])
    tokens = torch.randn(layout.num_tokens, 17, generator=torch.Generator().manual_seed(0))
    codec = AdapterCodec(layout=layout, scaling=TokenScaling(default_log_mean=-1.0))
    adapter = codec.decode(tokens, base=spec.id)
    write_diffusers(adapter, tmp_path / "lora", base=spec)
    plain = call(pipe)
    pipe.load_lora_weights(tmp_path / "lora", weight_name=WEIGHTS_NAME, use_safetensors=True)
    other, _ = _built(name)
    component = next(iter(adapter.pairs)).partition(".")[0]
    pairs = {n.removeprefix(f"{component}."): pair for n, pair in adapter.pairs.items()}
    merged(getattr(other, component), replace(adapter, pairs=pairs))
    torch.testing.assert_close(call(pipe), call(other), rtol=1e-3, atol=1e-4)
    assert (call(pipe) - plain).abs().max() > 1e-3


def _adapter() -> Adapter:
    """Linear modules, convolutions and the text encoder, with a scaling of its own."""
    from adapter_factories import random_adapter

    # Diffusers reads a text encoder of a kohya file only if its `out_proj` is adapted too
    targets = ["to_q", "to_out.0", "conv1", "conv_in", "q_proj", "out_proj"]
    return random_adapter(pipeline_spec(), rank=2, target=targets)


def test_a_fused_adapter_predicts_the_merged_noise(tmp_path: Path) -> None:
    adapter = _adapter()
    write_diffusers(adapter, tmp_path / "out")
    pipe = loaded_pipeline(tmp_path / "out", WEIGHTS_NAME)
    pipe.fuse_lora(components=["unet", "text_encoder"])
    pipe.unload_lora_weights()
    torch.testing.assert_close(predicted_noise(pipe), merged_noise(adapter), rtol=0, atol=1e-5)
    assert (predicted_noise(pipe) - predicted_noise(tiny_pipeline())).abs().max() > 1e-3


def test_conversion_to_kohya_and_back_predicts_the_same_noise(tmp_path: Path) -> None:
    adapter, spec = _adapter(), pipeline_spec()
    write_diffusers(adapter, tmp_path / "first", exact=True)
    there = read_diffusers(tmp_path / "first" / WEIGHTS_NAME, base=spec)
    write_kohya(there, tmp_path / "kohya.safetensors", base=spec, exact=True)
    back = read_kohya(tmp_path / "kohya.safetensors", base=spec)
    write_diffusers(back, tmp_path / "second", exact=True)
    noises = [
        predicted_noise(loaded_pipeline(tmp_path / "first", WEIGHTS_NAME)),
        predicted_noise(loaded_pipeline(tmp_path, "kohya.safetensors")),
        predicted_noise(loaded_pipeline(tmp_path / "second", WEIGHTS_NAME)),
    ]
    for noise in noises:
        torch.testing.assert_close(noise, merged_noise(adapter), rtol=0, atol=1e-5)
