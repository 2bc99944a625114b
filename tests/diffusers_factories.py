"""A tiny Stable Diffusion pipeline from configs, its spec, and what it predicts with an adapter."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from adapter_factories import merged
from torch import Tensor

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.base_model import BaseModelSpec
from lora_gen.safetensors_header import serialize_tensors

TO_Q = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
Q_PROJ = "encoder.layers.0.self_attn.q_proj"


def tiny_pipeline(seed: int = 0) -> Any:
    """Blocks without and with attention, as in SDXL; no tokenizer, no autoencoder."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(seed)
    unet = UNet2DConditionModel(
        sample_size=8,
        layers_per_block=2,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=4,
    )
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=32,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=8,
            eos_token_id=2,
            bos_token_id=1,
            pad_token_id=0,
        )
    )
    return StableDiffusionPipeline(
        vae=None,
        text_encoder=text_encoder.eval(),
        tokenizer=None,
        unet=unet.eval(),
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


@cache
def pipeline_spec() -> BaseModelSpec:
    with tempfile.TemporaryDirectory() as folder:
        tiny_pipeline().save_pretrained(folder)
        return BaseModelSpec.from_config(folder, id="acme/tiny-sd")


def predicted_noise(pipe: Any) -> Tensor:
    tokens = torch.tensor([[1, 5, 9, 14, 3, 2]])
    sample = torch.linspace(-1, 1, 4 * 64).reshape(1, 4, 8, 8)
    with torch.no_grad():
        states = pipe.text_encoder(tokens).last_hidden_state
        return pipe.unet(sample, 3, encoder_hidden_states=states).sample


def merged_noise(adapter: Adapter) -> Tensor:
    """Predicted noise with W + scaling * B @ A written into the weights, without PEFT."""
    pipe = tiny_pipeline()
    for component in ("unet", "text_encoder"):
        pairs = {
            name.removeprefix(f"{component}."): pair
            for name, pair in adapter.pairs.items()
            if name.startswith(f"{component}.")
        }
        merged(getattr(pipe, component), replace(adapter, pairs=pairs))
    return predicted_noise(pipe)


@contextmanager
def logged() -> Iterator[list[str]]:
    """Warnings of Diffusers and Transformers while the block runs."""
    messages: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    loggers = [logging.getLogger(name) for name in ("diffusers", "transformers")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield messages
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


def loaded_pipeline(folder: Path, weight_name: str, **options: Any) -> Any:
    """The pipeline after Diffusers loaded the file without a word about any key."""
    pipe = tiny_pipeline()
    with logged() as messages:
        pipe.load_lora_weights(
            folder, weight_name=weight_name, use_safetensors=True, adapter_name="own", **options
        )
    # Diffusers says so of a component that the file does not mean to adapt
    assert [text for text in messages if not text.startswith("No LoRA keys associated")] == []
    return pipe


def raw_file(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> Path:
    path.write_bytes(serialize_tensors(tensors, metadata))
    return path


def unet_tensors(
    down: str = ".lora.down.weight", up: str = ".lora.up.weight", module: str = f"unet.{TO_Q}"
) -> dict[str, Tensor]:
    """Rank 2 factors of one attention module, in any spelling."""
    return {
        module + down: torch.arange(32.0).reshape(2, 16) / 32,
        module + up: torch.ones(16, 2) / 4,
    }
