"""The denoiser: noisy tokens, states and noise level to clean tokens."""

from __future__ import annotations

from torch import Tensor, nn

from lora_gen.models.blocks import CrossAttention, FeedForward, Modulation


class DenoiserBlock(nn.Module):
    """One modulated read of the condition and one modulated perceptron."""

    def __init__(self, hidden_dim: int, num_heads: int, multiple: int) -> None:
        super().__init__()
        self.modulations = nn.ModuleList(Modulation(hidden_dim) for _ in range(2))
        self.attention = CrossAttention(hidden_dim, num_heads)
        self.feed_forward = FeedForward(hidden_dim, multiple)

    def forward(
        self, x_BNH: Tensor, level_BH: Tensor, memory_BKH: Tensor, mask_BK: Tensor
    ) -> Tensor:
        """New hidden tokens, (B, N, H)."""
        shifted, gate = self.modulations[0](x_BNH, level_BH)
        x_BNH = x_BNH + gate * self.attention(shifted, memory_BKH, mask_BK)
        shifted, gate = self.modulations[1](x_BNH, level_BH)
        out: Tensor = x_BNH + gate * self.feed_forward(shifted)
        return out


class TokenDenoiser(nn.Module):
    """Predicts the clean tokens; tokens meet only through their states and the condition."""

    def __init__(
        self, token_dim: int, hidden_dim: int, *, num_layers: int, num_heads: int, multiple: int
    ) -> None:
        super().__init__()
        self.input = nn.Linear(token_dim, hidden_dim)
        self.blocks = nn.ModuleList(
            DenoiserBlock(hidden_dim, num_heads, multiple) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(hidden_dim)
        self.output = nn.Linear(hidden_dim, token_dim)
        # A small start: the first behavior gradients meet an adapter that hardly disturbs the base.
        nn.init.normal_(self.output.weight, std=0.3 / hidden_dim**0.5)
        nn.init.zeros_(self.output.bias)

    def forward(
        self,
        noisy_BND: Tensor,
        states_BNH: Tensor,
        level_BH: Tensor,
        memory_BKH: Tensor,
        mask_BK: Tensor,
    ) -> Tensor:
        """Clean tokens, (B, N, D)."""
        x_BNH = self.input(noisy_BND) + states_BNH
        for block in self.blocks:
            x_BNH = block(x_BNH, level_BH, memory_BKH, mask_BK)
        clean: Tensor = self.output(self.norm(x_BNH))
        return clean
