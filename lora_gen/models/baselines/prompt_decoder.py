"""A convolutional decoder from a batch of prompts to tokens, without attention, noise or latent.

Source: Drag-and-Drop LLMs (Liang et al., arXiv 2506.16406), narrow. Shapes: P prompts, L text
tokens of each, both stretched to the layout's tokens and a token's values on the way.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from lora_gen.codec.layout import TokenLayout
from lora_gen.conditioning.condition import Condition
from lora_gen.models.baselines.pooled_text import text_of

PROMPTS = 2
"""Prompts in a batch."""
LENGTH = 32
"""Tokens of each that are read."""
Shape = tuple[int, int, int]


class HyperConvolution(nn.Module):
    """Convolutions along width and height in both orders, then one along the length.

    Each takes one axis as channels and slides over the two others: with u the normalized input,
    y = (h(w(u)) + tanh(w'(h'(u))) + bias) / 3, then a convolution whose channels are the length.
    """

    def __init__(self, start: Shape, end: Shape, kernel: int = 3) -> None:
        super().__init__()
        half = kernel // 2
        self.norm = nn.LayerNorm(start[2])
        self.width, self.width2 = (
            nn.Conv2d(start[2], end[2], kernel, padding=half) for _ in range(2)
        )
        self.height, self.height2 = (
            nn.Conv2d(start[1], end[1], kernel, padding=half) for _ in range(2)
        )
        self.bias = nn.Parameter(torch.zeros(start[0], end[1], end[2]))
        self.length = nn.Conv2d(start[0], end[0], kernel, padding=half)
        self.is_same = start == end

    def forward(self, x_BPLC: Tensor) -> Tensor:
        """(B, *start) to (B, *end)."""
        u = self.norm(x_BPLC)
        one = _along(self.height, _along(self.width, u, 3), 2)
        two = _along(self.width2, _along(self.height2, u, 2), 3)
        y: Tensor = self.length((one + two.tanh() + self.bias) / 3)
        return x_BPLC + y if self.is_same else y


def _along(convolution: nn.Module, x: Tensor, axis: int) -> Tensor:
    """A 2-D convolution whose channels are the given axis of (B, P, L, C)."""
    moved: Tensor = convolution(x.movedim(axis, 1))
    return moved.movedim(1, axis)


class PromptDecoder(nn.Module):
    """A cascade of `HyperConvolution` from text states to all tokens at once.

    Args:
        layout: Which tokens are written.
        text_dim: Width of the text encoder's states.
        hidden_dim: Width in the middle of the cascade.
    """

    def __init__(self, layout: TokenLayout, text_dim: int, hidden_dim: int) -> None:
        super().__init__()
        tokens, width = layout.num_tokens, layout.width + 1
        shapes: list[Shape] = [
            (PROMPTS, LENGTH, text_dim),
            (max(tokens // 8, PROMPTS), 8, hidden_dim),
            (max(tokens // 4, PROMPTS), 4, hidden_dim),
            (tokens, 2, width),
        ]
        self.layers = nn.Sequential(*(HyperConvolution(a, b) for a, b in pairwise(shapes)))
        self.output = nn.Linear(2 * width, width)

    def forward(self, states_BPLC: Tensor) -> Tensor:
        """Tokens, (B, N, D + 1)."""
        y_BNLD: Tensor = self.layers(states_BPLC)
        tokens_BND: Tensor = self.output(y_BNLD.flatten(2))
        return tokens_BND

    def write(self, condition: Condition, generator: torch.Generator) -> Tensor:
        """The one answer to the text, given as all prompts of the batch; nothing is drawn."""
        states_BKC, mask_BK = text_of(condition)
        fixed_BLC = fixed_length(states_BKC, mask_BK)
        tokens_BND: Tensor = self(fixed_BLC[:, None].expand(-1, PROMPTS, -1, -1))
        return tokens_BND


def fixed_length(states_BKC: Tensor, mask_BK: Tensor) -> Tensor:
    """The first `LENGTH` states of each text, zeros behind shorter ones; (B, L, C)."""
    kept_BKC = (states_BKC * mask_BK[..., None])[:, :LENGTH]
    return nn.functional.pad(kept_BKC, (0, 0, 0, LENGTH - kept_BKC.shape[1]))
