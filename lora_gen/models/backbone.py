"""The recurrent backbone: a state for each token slot, from what it is and what was asked."""

from __future__ import annotations

from collections.abc import Sequence

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
        return self.step(x_BNH, memory_BKH, mask_BK, None)[0]

    def step(
        self, x_BNH: Tensor, memory_BKH: Tensor, mask_BK: Tensor, start_BH: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """(new states of slots that follow others, what the next slots start from)."""
        x_BNH = x_BNH + self.attention(self.norms[0](x_BNH), memory_BKH, mask_BK)
        passed_BNH, end_BH = self.recurrence.step(self.norms[1](x_BNH), start_BH)
        x_BNH = x_BNH + passed_BNH
        return x_BNH + self.feed_forward(self.norms[2](x_BNH)), end_BH


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
        return self.step((slot_roles_N, slot_features_NF), memory_BKH, mask_BK, None)[0]

    def step(
        self,
        slots: tuple[Tensor, Tensor],
        memory_BKH: Tensor,
        mask_BK: Tensor,
        starts: Sequence[Tensor] | None,
    ) -> tuple[Tensor, list[Tensor]]:
        """States of slots that follow others, and what the next slots start from, layer by layer.

        Args:
            slots: Their roles (N,) and features (N, F).
            memory_BKH: Condition tokens.
            mask_BK: True where the memory is valid.
            starts: What the slots before ended with; None at the first slot.
        """
        slot_roles_N, slot_features_NF = slots
        slots_NH = self.role(slot_roles_N) + self.features(slot_features_NF)
        slots_NH = slots_NH + self.mix(slots_NH)
        x_BNH = slots_NH.expand(memory_BKH.shape[0], -1, -1)
        ends = []
        for i, block in enumerate(self.blocks):
            start_BH = None if starts is None else starts[i]
            x_BNH, end_BH = block.step(x_BNH, memory_BKH, mask_BK, start_BH)  # type: ignore[operator]
            ends.append(end_BH)
        return self.norm(x_BNH), ends
