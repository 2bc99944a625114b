"""Train the autoencoder of the base on plain and styled scenes."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny
from torch import Tensor, nn

from recipes.tiny_sd.world.primitive import primitives
from recipes.tiny_sd.world.scenes import draw, draw_scene
from recipes.tiny_sd.world.styles import Style, all_styles
from training.order import derive_seed
from training.task import TaskContext

STACK = 4
"""Pictures of a batch that share a style."""


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """Size of the autoencoder."""

    width: int = 32
    """Channels of its convolutions."""
    latent_channels: int = 8
    """Channels of a latent, 8 x 8 for a picture of 32 x 32."""
    plain_share: float = 0.25
    """Share of pictures without a style."""


class _Reconstruction(nn.Module):
    def __init__(self, autoencoder: AutoencoderTiny) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, pictures: Tensor) -> Tensor:
        """Pictures in [-1, 1] as the autoencoder gives them back."""
        latents = self.autoencoder.encode(pictures).latents
        decoded: Tensor = self.autoencoder.decode(latents).sample
        return decoded


class AutoencoderTask:
    """See `training.task.Task`. Every batch is new: scenes are drawn from the batch's number."""

    def __init__(self, config: AutoencoderConfig, context: TaskContext) -> None:
        self.config, self.context = config, context
        # Two thirds are primitives: the base's latents must hold what every composition is made of.
        singles = [Style(p.name, (p,)) for p in primitives()]
        self.styles = [*all_styles(), *singles]
        self.model: nn.Module = _Reconstruction(build_autoencoder(config)).to(
            memory_format=torch.channels_last  # type: ignore[call-overload]
        )

    def batch(self, index: int) -> Tensor:
        """Pictures (B, 3, 32, 32) in [-1, 1]."""
        rng = random.Random(derive_seed(self.context.seed, "pictures", index))
        pictures = draw([draw_scene(rng) for _ in range(self.context.batch_size)])
        for rows in pictures.split(STACK):
            if rng.random() >= self.config.plain_share:
                rows.copy_(rng.choice(self.styles)(rows))
        return pictures * 2 - 1

    def loss(
        self, model: nn.Module, batch: Any, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """Squared and absolute error of the pictures."""
        error = model(batch).float() - batch
        mse = error.square().mean()
        return mse + 0.1 * error.abs().mean(), {"mse": mse.detach()}

    @torch.no_grad()
    def evaluate(self, model: nn.Module, step: int) -> Mapping[str, float]:
        """Error on pictures that training never draws, and the spread of the latents."""
        pictures = torch.cat([self.batch(-1 - i) for i in range(4)]).to(self.context.device)
        autoencoder: Any = model.autoencoder
        latents = autoencoder.encode(pictures).latents
        error = (autoencoder.decode(latents).sample - pictures).square().mean()
        return {"mse": float(error), "latent_std": float(latents.std())}

    @torch.no_grad()
    def save(self, folder: Path, model: nn.Module) -> None:
        """An ordinary Diffusers folder whose scaling factor gives latents unit variance."""
        autoencoder: Any = model.autoencoder
        pictures = torch.cat([self.batch(-1 - i) for i in range(8)]).to(self.context.device)
        spread = float(autoencoder.encode(pictures).latents.std())
        autoencoder.register_to_config(scaling_factor=round(1 / spread, 5))
        autoencoder.save_pretrained(folder)

    def fingerprint(self) -> str:
        """Hash of the world."""
        names = " ".join(style.name for style in self.styles)
        return blake2b(names.encode(), digest_size=8).hexdigest()


def build_autoencoder(config: AutoencoderConfig) -> AutoencoderTiny:
    """Four times smaller pictures; only the decoder works at full resolution, and only once."""
    widths = (config.width,) * 3
    return AutoencoderTiny(
        encoder_block_out_channels=widths,
        decoder_block_out_channels=widths,
        num_encoder_blocks=(0, 1, 2),
        num_decoder_blocks=(2, 1, 0),
        latent_channels=config.latent_channels,
        scaling_factor=1.0,
    )


def build_autoencoder_task(config: AutoencoderConfig, context: TaskContext) -> AutoencoderTask:
    """The autoencoder task of a recipe."""
    return AutoencoderTask(config, context)
