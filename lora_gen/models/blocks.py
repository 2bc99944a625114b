"""Blocks that the networks share."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def linear_scan(decay_BNH: Tensor, value_BNH: Tensor, start_BH: Tensor | None = None) -> Tensor:
    """h_n = decay_n * h_(n-1) + value_n with h_(-1) = `start_BH` or 0, in work linear in N.

    The sequence is cut into about sqrt(N) chunks: a scan inside all chunks at once, then one over
    the chunks' last states.
    """
    batch, length, width = value_BNH.shape
    size = max(1, math.isqrt(length - 1) + 1)
    count = -(-length // size)
    padding = (0, 0, 0, count * size - length)
    decay = nn.functional.pad(decay_BNH, padding).view(batch, count, size, width)
    value = nn.functional.pad(value_BNH, padding).view(batch, count, size, width)
    states, products = [value[:, :, 0]], [decay[:, :, 0]]
    for i in range(1, size):
        states.append(decay[:, :, i] * states[-1] + value[:, :, i])
        products.append(decay[:, :, i] * products[-1])
    inner_BGCH, product_BGCH = torch.stack(states, 2), torch.stack(products, 2)
    carry = torch.zeros_like(value[:, 0, 0]) if start_BH is None else start_BH
    carries = []
    for g in range(count):
        carries.append(carry)
        carry = product_BGCH[:, g, -1] * carry + inner_BGCH[:, g, -1]
    whole = inner_BGCH + product_BGCH * torch.stack(carries, 1)[:, :, None]
    return whole.reshape(batch, count * size, width)[:, :length]


class GatedRecurrence(nn.Module):
    """Minimal gated linear recurrence with an output gate.

    Source: minGRU (Feng et al., arXiv 2410.01201), the gate of GRU without the hidden state in it,
    so that the recurrence is a linear scan.
    """

    def __init__(self, hidden_dim: int) -> None:
        super().__init__()
        self.input = nn.Linear(hidden_dim, 3 * hidden_dim)
        self.output = nn.Linear(hidden_dim, hidden_dim)

    def forward(self, x_BNH: Tensor) -> Tensor:
        """States of the tokens so far, (B, N, H); token n never sees a later one."""
        return self.step(x_BNH, None)[0]

    def step(self, x_BNH: Tensor, start_BH: Tensor | None) -> tuple[Tensor, Tensor]:
        """(states of tokens that follow others, what the next tokens start from)."""
        update, candidate, gate = self.input(x_BNH).chunk(3, -1)
        update = update.sigmoid()
        # The scan multiplies hundreds of gates: bfloat16 would lose the early tokens.
        state_BNH = linear_scan((1 - update).float(), (update * candidate).float(), start_BH)
        out_BNH: Tensor = self.output(state_BNH * nn.functional.silu(gate))
        return out_BNH, state_BNH[:, -1]


class CrossAttention(nn.Module):
    """Attention of tokens to condition tokens."""

    def __init__(self, hidden_dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(hidden_dim, hidden_dim)
        self.key_value = nn.Linear(hidden_dim, 2 * hidden_dim)
        self.output = nn.Linear(hidden_dim, hidden_dim)

    def forward(self, x_BNH: Tensor, memory_BKH: Tensor, mask_BK: Tensor) -> Tensor:
        """What each token read, (B, N, H); `mask_BK` is True where the memory is valid."""
        batch, length, width = x_BNH.shape
        shape = (batch, -1, self.num_heads, width // self.num_heads)
        query = self.query(x_BNH).view(shape).transpose(1, 2)
        key, value = (
            part.view(shape).transpose(1, 2) for part in self.key_value(memory_BKH).chunk(2, -1)
        )
        # Written out: with a few dozen condition tokens, PyTorch's fused kernel is slower on CPU,
        # backward above all.
        scores = query @ key.mT / math.sqrt(query.shape[-1])
        weights = scores.float().masked_fill(~mask_BK[:, None, None], -torch.inf).softmax(-1)
        read = weights.to(value.dtype) @ value
        out_BNH: Tensor = self.output(read.transpose(1, 2).reshape(batch, length, width))
        return out_BNH


class FeedForward(nn.Sequential):
    """Two-layer perceptron whose inner width is `multiple` times H."""

    def __init__(self, hidden_dim: int, multiple: int) -> None:
        super().__init__(
            nn.Linear(hidden_dim, multiple * hidden_dim),
            nn.SiLU(),
            nn.Linear(multiple * hidden_dim, hidden_dim),
        )


class NoiseLevel(nn.Module):
    """Embedding of the noise level t in [0, 1]; (B,) -> (B, H)."""

    bands: Tensor

    def __init__(self, hidden_dim: int, bands: int = 16) -> None:
        super().__init__()
        self.register_buffer(
            "bands", 2.0 ** torch.linspace(0, 8, bands) * math.pi / 2, persistent=False
        )
        self.net = nn.Sequential(
            nn.Linear(2 * bands, hidden_dim),
            nn.SiLU(),
            nn.Linear(hidden_dim, hidden_dim),
            nn.SiLU(),
        )

    def forward(self, level_B: Tensor) -> Tensor:
        """Embedding, (B, H)."""
        angles = level_B[:, None].float() * self.bands
        embedding: Tensor = self.net(torch.cat([angles.sin(), angles.cos()], -1))
        return embedding


class Modulation(nn.Module):
    """Shift, scale and gate from the noise level, zero at the start.

    Source: adaLN-Zero (Peebles & Xie, arXiv 2212.09748).
    """

    def __init__(self, hidden_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden_dim, elementwise_affine=False)
        self.net = nn.Linear(hidden_dim, 3 * hidden_dim)
        nn.init.zeros_(self.net.weight)
        nn.init.zeros_(self.net.bias)

    def forward(self, x_BNH: Tensor, level_BH: Tensor) -> tuple[Tensor, Tensor]:
        """(modulated input, gate), (B, N, H) and (B, 1, H)."""
        shift, scale, gate = self.net(level_BH)[:, None].chunk(3, -1)
        return self.norm(x_BNH) * (1 + scale) + shift, 1 + gate
