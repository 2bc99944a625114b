"""Diffusion over the latents of an autoencoder, conditioned on a pooled text.

Source: LoRAGen (ICLR 2026) and D2NWG (arXiv 2402.18153): v-prediction, linear variances, a small
transformer over slots to which the text is added before every layer. Z is the width of a latent.
"""

from __future__ import annotations

import torch
from diffusers import DDIMScheduler
from torch import Tensor, nn

from lora_gen.codec.layout import TokenLayout
from lora_gen.conditioning.condition import Condition
from lora_gen.models.baselines.autoencoder import SlotAutoencoder
from lora_gen.models.baselines.pooled_text import PooledText
from lora_gen.models.blocks import NoiseLevel

TRAIN_STEPS = 500
SAMPLE_STEPS = 25
LATENT_DIM = 32
_LAYERS, _HEADS = 4, 8


class LatentDiffusion(nn.Module):
    """An autoencoder over slots, and the denoiser of its latents.

    Args:
        layout: Which tokens are written.
        text_dim: Width of the text encoder's states.
        hidden_dim: Width H of the denoiser.
    """

    scale: Tensor

    def __init__(self, layout: TokenLayout, text_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.autoencoder = SlotAutoencoder(layout, LATENT_DIM)
        self.slots = layout.num_tokens
        self.text = PooledText(text_dim, hidden_dim)
        self.level = NoiseLevel(hidden_dim)
        self.input = nn.Linear(LATENT_DIM, hidden_dim)
        self.place = nn.Parameter(torch.randn(layout.num_tokens, hidden_dim) * 0.02)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                hidden_dim, _HEADS, 2 * hidden_dim, dropout=0.1, batch_first=True, norm_first=True
            )
            for _ in range(_LAYERS)
        )
        self.output = nn.Linear(hidden_dim, LATENT_DIM)
        self.noise_scheduler = DDIMScheduler(
            num_train_timesteps=TRAIN_STEPS,
            beta_schedule="linear",
            prediction_type="v_prediction",
            clip_sample=False,
        )

    def latents(self, tokens_BND: Tensor) -> Tensor:
        """What is diffused: each slot's mean latent at unit root mean square, (B, N, Z)."""
        mean_BNZ, _ = self.autoencoder.encode(tokens_BND)
        return unit(mean_BNZ)

    def forward(self, noisy_BNZ: Tensor, step_B: Tensor, condition: Condition) -> Tensor:
        """Velocity at a step of the noise scheduler, (B, N, Z)."""
        added_BH = self.text(condition) + self.level(step_B / TRAIN_STEPS)
        x_BNH = self.input(noisy_BNZ) + self.place
        for layer in self.layers:
            x_BNH = layer(x_BNH + added_BH[:, None])
        velocity_BNZ: Tensor = self.output(x_BNH)
        return velocity_BNZ

    def write(self, condition: Condition, generator: torch.Generator) -> Tensor:
        """Tokens of latents that deterministic steps (DDIM) lead to from noise."""
        device = self.place.device
        shape = (condition.batch_size, self.slots, LATENT_DIM)
        x_BNZ = torch.randn(shape, generator=generator).to(device)
        self.noise_scheduler.set_timesteps(SAMPLE_STEPS)
        for step in self.noise_scheduler.timesteps:
            velocity_BNZ = self(x_BNZ, step.expand(len(x_BNZ)).to(device), condition)
            x_BNZ = self.noise_scheduler.step(velocity_BNZ, step, x_BNZ).prev_sample
        return self.autoencoder.decode(unit(x_BNZ))


def unit(latent_BNZ: Tensor) -> Tensor:
    """Each latent at unit root mean square, so that noise of variance one is as large."""
    size_BN1 = latent_BNZ.square().mean(-1, keepdim=True).clamp_min(1e-8).sqrt()
    return latent_BNZ / size_BN1
