"""The side of the encoder that reads texts: from the states of a frozen text encoder to one vector.

Shapes: T texts, K tokens, C their width, G segments, H hidden width, Q queries, E embedding width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lora_gen.models.blocks import CrossAttention, FeedForward

_POSITIONS = 96
"""Later tokens share the last position."""
_QUERIES = 8


def segment_pool(states_BKC: Tensor, mask_BK: Tensor, segments: int) -> Tensor:
    """Means over a whole text and over equal stretches of it, (B, 1 + segments, C).

    A mean over all tokens hardly knows whether "reverse" comes before or after "drop".
    """
    place_BK = mask_BK.cumsum(1) - 1
    length_B1 = mask_BK.sum(1, keepdim=True)
    short_B1, longer_B1 = length_B1 // segments, length_B1 % segments
    # As `torch.tensor_split`: the first stretches take the tokens that are left over.
    edge_B1 = longer_B1 * (short_B1 + 1)
    which_BK = torch.where(
        place_BK < edge_B1,
        place_BK // (short_B1 + 1),
        longer_B1 + (place_BK - edge_B1) // short_B1.clamp_min(1),
    )
    means = []
    for segment in range(-1, segments):
        chosen_BK = mask_BK if segment < 0 else mask_BK & (which_BK == segment)
        weight_BK1 = chosen_BK[..., None].to(states_BKC.dtype)
        means.append((states_BKC * weight_BK1).sum(1) / weight_BK1.sum(1).clamp_min(1))
    return torch.stack(means, 1)


class SetBlock(nn.Module):
    """Tokens or modules read each other, then think."""

    def __init__(self, hidden_dim: int, num_heads: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(hidden_dim) for _ in range(2))
        self.attention = CrossAttention(hidden_dim, num_heads)
        self.feed_forward = FeedForward(hidden_dim, 2)

    def forward(self, x_BNH: Tensor, mask_BN: Tensor) -> Tensor:
        """New states, (B, N, H); a permutation of the set permutes them."""
        normed_BNH = self.norms[0](x_BNH)
        x_BNH = x_BNH + self.attention(normed_BNH, normed_BNH, mask_BN)
        out_BNH: Tensor = x_BNH + self.feed_forward(self.norms[1](x_BNH))
        return out_BNH


@dataclass(frozen=True, kw_only=True)
class TextTowerConfig:
    """Size of the side that reads texts."""

    text_dim: int = 384
    """Width C of the frozen encoder's states."""
    segments: int = 4
    """Stretches of a text that the linear part tells apart."""
    hidden_dim: int = 128
    """Width H of the tokens' states."""
    num_layers: int = 1
    """Layers in which tokens read each other."""
    num_heads: int = 4
    """Attention heads."""
    dropout: float = 0.2
    """Of token states and of what the queries read."""


class TextTower(nn.Module):
    """A linear read-out of pooled states plus what queries read off the single tokens.

    The pooled part can be fitted in closed form; the other starts at zero. "First" for "last"
    hardly moves a mean over tokens, but it moves the state of its own token.

    Args:
        config: Its sizes.
        embed_dim: Width E of its vectors.
    """

    center: Tensor

    def __init__(self, config: TextTowerConfig, embed_dim: int) -> None:
        super().__init__()
        width, hidden = (1 + config.segments) * config.text_dim, config.hidden_dim
        self.segments = config.segments
        self.register_buffer("center", torch.zeros(width))
        self.readout = nn.Parameter(torch.zeros(width, embed_dim))
        self.drop = nn.Dropout(config.dropout)
        self.input = nn.Linear(config.text_dim, hidden)
        self.place = nn.Parameter(torch.randn(_POSITIONS, hidden) * 0.02)
        self.blocks = nn.ModuleList(
            SetBlock(hidden, config.num_heads) for _ in range(config.num_layers)
        )
        self.norm = nn.LayerNorm(hidden)
        self.queries = nn.Parameter(torch.randn(_QUERIES, hidden) * 0.1)
        self.pool = CrossAttention(hidden, config.num_heads)
        self.output = nn.Linear(_QUERIES * hidden, embed_dim)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, states_TKC: Tensor, mask_TK: Tensor) -> Tensor:
        """Vectors, (T, E), not of unit length."""
        pooled_TS = segment_pool(states_TKC, mask_TK, self.segments).flatten(1)
        linear_TE = (pooled_TS - self.center) @ self.readout
        place_K = torch.arange(states_TKC.shape[1], device=mask_TK.device).clamp(max=_POSITIONS - 1)
        x_TKH = self.input(self.drop(states_TKC)) + self.place[place_K]
        for block in self.blocks:
            x_TKH = block(x_TKH, mask_TK)
        query_TQH = self.queries.expand(len(x_TKH), -1, -1)
        read_TQH = self.pool(query_TQH, self.norm(x_TKH), mask_TK)
        found_TE: Tensor = linear_TE + self.output(self.drop(read_TQH.flatten(1)))
        return found_TE
