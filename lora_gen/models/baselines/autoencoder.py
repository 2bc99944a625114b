"""A latent for each slot of the layout, decoded by a mixture of experts.

Source: LoRAGen (ICLR 2026), whose positions are (layer, module, side); D2NWG (arXiv 2402.18153)
encodes slices likewise. Z is the width of a latent, G the number of experts.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lora_gen.codec.layout import TokenLayout

EXPERTS = 4
_HIDDEN = 256


class SlotAutoencoder(nn.Module):
    """Token to latent by a perceptron; latent and slot to token by the expert the router picks.

    Args:
        layout: Which slots there are.
        latent_dim: Z.
    """

    def __init__(self, layout: TokenLayout, latent_dim: int) -> None:
        super().__init__()
        width = layout.width + 1
        self.place = nn.Parameter(torch.randn(layout.num_tokens, latent_dim) * 0.5)
        self.encoder = nn.Sequential(
            nn.Linear(width + latent_dim, _HIDDEN),
            nn.ReLU(),
            nn.Linear(_HIDDEN, 2 * latent_dim),
        )
        self.router = nn.Linear(2 * latent_dim, EXPERTS)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(2 * latent_dim, _HIDDEN), nn.SiLU(), nn.Linear(_HIDDEN, width))
            for _ in range(EXPERTS)
        )

    def encode(self, tokens_BND: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of each slot's latent, (B, N, Z) each."""
        place_BNZ = self.place.expand(len(tokens_BND), -1, -1)
        moments_BNZ = self.encoder(torch.cat([tokens_BND, place_BNZ], -1))
        mean_BNZ, log_variance_BNZ = moments_BNZ.chunk(2, -1)
        return mean_BNZ, log_variance_BNZ.clamp(-10, 10)

    def decode(self, latent_BNZ: Tensor) -> Tensor:
        """Tokens, (B, N, D + 1)."""
        x_BNZ = torch.cat([latent_BNZ, self.place.expand(len(latent_BNZ), -1, -1)], -1)
        gate_BNG = self.router(x_BNZ).softmax(-1)
        best_BN1 = gate_BNG.argmax(-1, keepdim=True)
        # One expert answers; its gate keeps the router differentiable without scaling the answer.
        chosen_BNG = torch.zeros_like(gate_BNG).scatter(-1, best_BN1, 1.0)
        weight_BNG = chosen_BNG + gate_BNG - gate_BNG.detach()
        answers_BNGD = torch.stack([expert(x_BNZ) for expert in self.experts], 2)
        tokens_BND: Tensor = (weight_BNG[..., None] * answers_BNGD).sum(2)
        return tokens_BND
