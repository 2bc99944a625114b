"""The recurrent backbone: a state for each token slot, from what it is and what was asked."""

from __future__ import annotations

from torch import Tensor, nn

from lora_gen.codec.layout import NUM_NUMERIC_FEATURES
from lora_gen.codec.roles import ROLES
from lora_gen.models.blocks import CrossAttention, FeedForward, GatedRecurrence


class BackboneBlock(nn.Module):
    """Read the condition, pass on along the slots, think."""

    def __init__(self, hidden_dim: int, num_heads: int, multiple: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(hidden_dim) for _ in range(3))
        self.attention = CrossAttention(hidden_dim, num_heads)
        self.recurrence = GatedRecurrence(hidden_dim)
        self.feed_forward = FeedForward(hidden_dim, multiple)

    def forward(self, x_BNH: Tensor, memory_BKH: Tensor, mask_BK: Tensor) -> Tensor:
        """New states, (B, N, H)."""
        x_BNH = x_BNH + self.attention(self.norms[0](x_BNH), memory_BKH, mask_BK)
        x_BNH = x_BNH + self.recurrence(self.norms[1](x_BNH))
        out: Tensor = x_BNH + self.feed_forward(self.norms[2](x_BNH))
        return out


class RecurrentBackbone(nn.Module):
    """Slots and condition to states.

    It never sees weights, so one pass serves every sampler step and candidate. Linear in the number
    of slots. It is causal over the layout's order, and the layout orders by LoRA component: the
    states of a rank-2 adapter are the first half of those of a rank-4 adapter.
    """

    def __init__(self, hidden_dim: int, num_layers: int, num_heads: int, multiple: int) -> None:
        super().__init__()
        self.role = nn.Embedding(2 * len(ROLES), hidden_dim)
        self.features = nn.Sequential(
            nn.Linear(NUM_NUMERIC_FEATURES, hidden_dim),
            nn.SiLU(),
            nn.Linear(hidden_dim, hidden_dim),
        )
        self.mix = nn.Sequential(nn.SiLU(), nn.Linear(hidden_dim, hidden_dim))
        self.blocks = nn.ModuleList(
            BackboneBlock(hidden_dim, num_heads, multiple) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(hidden_dim)

    def forward(
        self, slot_roles_N: Tensor, slot_features_NF: Tensor, memory_BKH: Tensor, mask_BK: Tensor
    ) -> Tensor:
        """State of each slot, (B, N, H)."""
        slots_NH = self.role(slot_roles_N) + self.features(slot_features_NF)
        slots_NH = slots_NH + self.mix(slots_NH)
        x_BNH = slots_NH.expand(memory_BKH.shape[0], -1, -1)
        for block in self.blocks:
            x_BNH = block(x_BNH, memory_BKH, mask_BK)
        states: Tensor = self.norm(x_BNH)
        return states
