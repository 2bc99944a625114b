"""One adapter for every request: multi-task training, whose base is told the task in its input."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lora_gen.codec.layout import TokenLayout
from lora_gen.conditioning.condition import Condition


class OneForAll(nn.Module):
    """The tokens themselves are what is trained; A starts random and B at zero, as in PEFT.

    Args:
        layout: Which tokens there are.
        text_dim: Not used: the base reads the text.
        hidden_dim: Not used.
    """

    def __init__(self, layout: TokenLayout, text_dim: int, hidden_dim: int) -> None:
        super().__init__()
        is_a_N1 = (layout.slot_roles % 2 == 0)[:, None]
        values_ND = torch.randn(layout.num_tokens, layout.width) * layout.value_mask * is_a_N1
        self.tokens = nn.Parameter(nn.functional.pad(values_ND, (0, 1)))

    def forward(self, condition: Condition) -> Tensor:
        """The same tokens for each row, (B, N, D + 1)."""
        return self.tokens.expand(condition.batch_size, -1, -1)

    def write(self, condition: Condition, generator: torch.Generator) -> Tensor:
        """The one adapter; nothing is read and nothing drawn."""
        tokens_BND: Tensor = self(condition)
        return tokens_BND
