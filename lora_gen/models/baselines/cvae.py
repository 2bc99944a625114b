"""A conditional variational autoencoder over the whole flat adapter.

Source: ICM-LoRA (Shao et al., arXiv 2501.17635), with half of its convolutions; no statistic of a
target adapter is read when one is written. Z is the width of the latent.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from lora_gen.codec.layout import TokenLayout
from lora_gen.conditioning.condition import Condition
from lora_gen.models.baselines.pooled_text import PooledText

CHANNELS = (1, 8, 16, 32, 64, 32, 16)
KERNEL = 7


class ConditionalVae(nn.Module):
    """Strided convolutions to a latent, and transposed ones back; the text joins in the middle.

    Args:
        layout: Which tokens are written.
        text_dim: Width of the text encoder's states.
        hidden_dim: Width Z of the latent, and of the text vector.
    """

    def __init__(self, layout: TokenLayout, text_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.shape = (layout.num_tokens, layout.width + 1)
        steps = len(CHANNELS) - 1
        self.short = -(-self.shape[0] * self.shape[1] // 2**steps)
        flat = self.short * CHANNELS[-1]
        self.latent_dim = hidden_dim
        self.text = PooledText(text_dim, hidden_dim)
        self.down = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv1d(a, b, KERNEL, stride=2, padding=KERNEL // 2),
                    nn.GroupNorm(1, b),
                    nn.LeakyReLU(),
                )
                for a, b in pairwise(CHANNELS)
            )
        )
        self.moments = nn.Linear(flat + hidden_dim, 2 * hidden_dim)
        self.start = nn.Linear(2 * hidden_dim, flat)
        backward = CHANNELS[::-1]
        self.up = nn.ModuleList(
            nn.Sequential(
                nn.ConvTranspose1d(a, b, KERNEL, stride=2, padding=KERNEL // 2, output_padding=1),
                *([nn.GroupNorm(1, b), nn.LeakyReLU()] if b > 1 else []),
            )
            for a, b in pairwise(backward)
        )

    def encode(self, tokens_BND: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the latent, (B, Z) each."""
        length = self.short * 2 ** (len(CHANNELS) - 1)
        flat_BL = tokens_BND.flatten(1)
        padded_BL = nn.functional.pad(flat_BL, (0, length - flat_BL.shape[1]))
        code_BF = self.down(padded_BL[:, None]).flatten(1)
        moments_BZ = self.moments(torch.cat([code_BF, self.text(condition)], 1))
        mean_BZ, log_variance_BZ = moments_BZ.chunk(2, 1)
        return mean_BZ, log_variance_BZ.clamp(-10, 10)

    def decode(self, latent_BZ: Tensor, condition: Condition) -> Tensor:
        """Tokens, (B, N, D + 1)."""
        code = self.start(torch.cat([latent_BZ, self.text(condition)], 1))
        x = code.view(len(code), CHANNELS[-1], self.short)
        for layer in self.up:
            x = layer(x)
        tokens, width = self.shape
        tokens_BND: Tensor = x[:, 0, : tokens * width].view(-1, tokens, width)
        return tokens_BND

    def forward(
        self, tokens_BND: Tensor, condition: Condition, noise_BZ: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(reconstruction, mean, log variance); the latent is mean + deviation * noise."""
        mean_BZ, log_variance_BZ = self.encode(tokens_BND, condition)
        latent_BZ = mean_BZ + (0.5 * log_variance_BZ).exp() * noise_BZ
        return self.decode(latent_BZ, condition), mean_BZ, log_variance_BZ

    def write(self, condition: Condition, generator: torch.Generator) -> Tensor:
        """Tokens for latents drawn from the prior."""
        noise_BZ = torch.randn(condition.batch_size, self.latent_dim, generator=generator)
        return self.decode(noise_BZ.to(self.start.weight.device), condition)


def kl_divergence(mean_BZ: Tensor, log_variance_BZ: Tensor) -> Tensor:
    """KL of N(mean, variance) from the standard normal, mean over rows, at least 0."""
    rows_B = (mean_BZ.square() + log_variance_BZ.exp() - 1 - log_variance_BZ).sum(1) / 2
    return rows_B.mean()
