"""Train the base: UNet and text encoder on the latents of captioned scenes."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from recipes.tiny_sd.tokenizer import MAX_TOKENS, build_tokenizer, caption_of
from recipes.tiny_sd.world.scenes import SIZE, draw, draw_scene
from recipes.tiny_sd.world.styles import all_styles
from training.order import derive_seed
from training.picture_objectives import noised
from training.task import TaskContext

STACK = 4
"""Pictures of a batch that share a style."""


@dataclass(frozen=True, kw_only=True)
class BaseConfig:
    """Size and data of the base."""

    autoencoder: str = "build/tiny_sd/autoencoder/final"
    """Folder of the trained autoencoder."""
    widths: tuple[int, int] = (32, 64)
    """Channels of the UNet at 8 x 8 and at 4 x 4; the latter attends to the caption."""
    text_width: int = 64
    text_layers: int = 2
    styled_share: float = 0.4
    """Share of pictures with some style, under a caption that does not say which."""
    drop_caption: float = 0.1
    """Share of empty captions, for guidance."""


class BaseTask:
    """See `training.task.Task`. Every batch is new: scenes are drawn from the batch's number."""

    def __init__(self, config: BaseConfig, context: TaskContext) -> None:
        self.config, self.context = config, context
        autoencoder: Any = AutoencoderTiny.from_pretrained(config.autoencoder)
        self.autoencoder = autoencoder.requires_grad_(False).eval().to(context.device)
        self.tokenizer = build_tokenizer()
        self.noise_scheduler = build_noise_scheduler()
        self.styles = all_styles()
        self.model: nn.Module = _Base(build_unet(config, autoencoder), self._text_encoder())

    def _text_encoder(self) -> CLIPTextModel:
        config = CLIPTextConfig(
            vocab_size=len(self.tokenizer),
            hidden_size=self.config.text_width,
            intermediate_size=2 * self.config.text_width,
            num_hidden_layers=self.config.text_layers,
            num_attention_heads=4,
            max_position_embeddings=MAX_TOKENS,
            bos_token_id=self.tokenizer.bos_token_id,
            eos_token_id=self.tokenizer.eos_token_id,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        return CLIPTextModel(config)

    def batch(self, index: int) -> dict[str, Tensor]:
        """Pictures in [-1, 1] and ids of their captions."""
        rng = random.Random(derive_seed(self.context.seed, "scenes", index))
        scenes = [draw_scene(rng) for _ in range(self.context.batch_size)]
        pictures = draw(scenes)
        captions = []
        for start in range(0, len(scenes), STACK):
            stylized = rng.random() < self.config.styled_share
            if stylized:
                rows = pictures[start : start + STACK]
                rows.copy_(rng.choice(self.styles)(rows))
            for scene in scenes[start : start + STACK]:
                dropped = rng.random() < self.config.drop_caption
                captions.append("" if dropped else caption_of(scene.caption, stylized=stylized))
        return {"pictures": pictures * 2 - 1, "ids": caption_ids(self.tokenizer, captions)}

    def loss(
        self, model: nn.Module, batch: Any, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """Squared error of the predicted velocity."""
        with torch.no_grad():
            latents = self.autoencoder.encode(batch["pictures"]).latents.float()
            latents = latents * self.autoencoder.config.scaling_factor
        noisy = noised(self.noise_scheduler, latents, generator)
        velocity = model(noisy.latents, noisy.timesteps, batch["ids"]).float()
        return (velocity - noisy.target).square().mean(), {}

    @torch.no_grad()
    def evaluate(self, model: nn.Module, step: int) -> Mapping[str, float]:
        """Loss on pictures that training never draws."""
        losses = []
        for i in range(4):
            batch = {name: x.to(self.context.device) for name, x in self.batch(-1 - i).items()}
            generator = torch.Generator(self.context.device).manual_seed(i)
            losses.append(float(self.loss(model, batch, generator)[0]))
        return {"loss": sum(losses) / len(losses)}

    def save(self, folder: Path, model: nn.Module) -> None:
        """An ordinary `StableDiffusionPipeline` folder."""
        base: Any = model
        pipe = StableDiffusionPipeline(
            vae=self.autoencoder,
            text_encoder=base.text_encoder,
            tokenizer=self.tokenizer,
            unet=base.unet,
            scheduler=self.noise_scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipe.save_pretrained(folder)

    def fingerprint(self) -> str:
        """Hash of the world and of the autoencoder."""
        names = " ".join(style.name for style in self.styles)
        weights = (
            Path(self.config.autoencoder) / "diffusion_pytorch_model.safetensors"
        ).read_bytes()
        return blake2b(names.encode() + weights, digest_size=8).hexdigest()


class _Base(nn.Module):
    def __init__(self, unet: UNet2DConditionModel, text_encoder: CLIPTextModel) -> None:
        super().__init__()
        self.unet, self.text_encoder = unet, text_encoder

    def forward(self, noisy: Tensor, timesteps: Tensor, ids: Tensor) -> Tensor:
        """What the UNet predicts for noisy latents under captions."""
        states = self.text_encoder(ids).last_hidden_state
        predicted: Tensor = self.unet(noisy, timesteps, encoder_hidden_states=states).sample
        return predicted


def build_noise_scheduler() -> DDIMScheduler:
    """Ends in pure noise, without which dark and bright pictures come out gray.

    Source: Lin et al., arXiv 2305.08891.
    """
    return DDIMScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        steps_offset=1,
        clip_sample=False,
    )


def build_unet(config: BaseConfig, autoencoder: Any) -> UNet2DConditionModel:
    """One block a resolution; only the lower one attends, as in SDXL."""
    channels = autoencoder.config.latent_channels
    return UNet2DConditionModel(
        sample_size=SIZE // 4,
        in_channels=channels,
        out_channels=channels,
        layers_per_block=1,
        block_out_channels=config.widths,
        norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=config.text_width,
        attention_head_dim=4,
    )


def caption_ids(tokenizer: Any, captions: list[str]) -> Tensor:
    """Token ids as `StableDiffusionPipeline` makes them, (B, MAX_TOKENS)."""
    ids: Tensor = tokenizer(
        captions,
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    ).input_ids
    return ids


def build_base_task(config: BaseConfig, context: TaskContext) -> BaseTask:
    """The base task of a recipe."""
    return BaseTask(config, context)
