"""A text as one vector, which is what the published generators read."""

from __future__ import annotations

from torch import Tensor, nn

from lora_gen.conditioning.condition import Condition
from lora_gen.errors import ConditionError


class PooledText(nn.Module):
    """Mean of the token states, linear, normalized; (B, H)."""

    def __init__(self, text_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.05)
        self.linear = nn.Linear(text_dim, hidden_dim)
        self.norm = nn.LayerNorm(hidden_dim)

    def forward(self, condition: Condition) -> Tensor:
        """One vector for each row, (B, H).

        Raises:
            ConditionError: There is no text.
        """
        pooled_BC = mean_states(*text_of(condition))
        vector_BH: Tensor = self.norm(self.linear(self.drop(pooled_BC)))
        return vector_BH


def text_of(condition: Condition) -> tuple[Tensor, Tensor]:
    """States (B, K, C) and mask (B, K).

    Raises:
        ConditionError: There is no text.
    """
    if condition.text_states is None or condition.text_mask is None:
        raise ConditionError("`text` is missing, but this baseline reads nothing else. Pass one.")
    return condition.text_states, condition.text_mask


def mean_states(states_BKC: Tensor, mask_BK: Tensor) -> Tensor:
    """Mean over the tokens of each text, (B, C)."""
    weight_BK1 = mask_BK[..., None].to(states_BKC.dtype)
    return (states_BKC * weight_BK1).sum(1) / weight_BK1.sum(1).clamp_min(1)
