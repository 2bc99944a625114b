"""Predicted accuracy of an adapter that should do what a description says.

A wrong description makes any adapter worthless, however well it was trained. A sum over what the
weights and their agreement say cannot express that, so the two are multiplied: how well the adapter
does what it does, times how likely that is what the description means.

Shapes: B adapters, S width of what quality reads, E width of vectors, F of an agreement, M members.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_HIDDEN, _HIDDEN_MATCH = 64, 16
_LIKELY = 2.0
"""Logit of agreement before anything was learned: most descriptions are right."""


class DescribedEnsemble(nn.Module):
    """Independent products of two perceptrons, each in [0, 1].

    Half of the members do not read the vector of the adapter: what it was trained on tells them
    nothing that holds for the next task.

    Args:
        input_dim: S.
        vector_dim: E; the first E inputs are the vector.
        halves: Whether vectors have two halves that are compared on their own as well.
        members: M.
    """

    input_mean: Tensor
    input_std: Tensor
    match_mean: Tensor
    match_std: Tensor
    text_center: Tensor
    """Mean of the vectors of descriptions, (E,)."""
    text_scatter: Tensor
    """Their covariance, (E, E)."""
    reads: Tensor
    """What each member reads, (M, S)."""
    reach: Tensor
    """Conformal quantile of |error| over the width that `spread` gives, (1,)."""

    def __init__(
        self, input_dim: int, vector_dim: int, *, halves: bool = False, members: int = 6
    ) -> None:
        super().__init__()
        width = vector_dim // 2
        self.parts = [slice(None), slice(0, width), slice(width, None)][: 3 if halves else 1]
        match_dim = 2 * len(self.parts)
        self.own = nn.ModuleList(_perceptron(input_dim, _HIDDEN) for _ in range(members))
        self.match = nn.ModuleList(_perceptron(match_dim, _HIDDEN_MATCH) for _ in range(members))
        for name, count in (("input", input_dim), ("match", match_dim)):
            self.register_buffer(f"{name}_mean", torch.zeros(count))
            self.register_buffer(f"{name}_std", torch.ones(count))
        self.register_buffer("text_center", torch.zeros(vector_dim))
        self.register_buffer("text_scatter", torch.eye(vector_dim) / vector_dim)
        reads_MS = torch.ones(members, input_dim)
        reads_MS[1::2, :vector_dim] = 0
        self.register_buffer("reads", reads_MS)
        self.register_buffer("reach", torch.full((1,), torch.inf))

    def agreement(self, vector_BE: Tensor, text_BE: Tensor) -> Tensor:
        """How near vectors and descriptions are, also among descriptions in general, (B, F).

        A vector that is near to every description says nothing by being near to this one.
        """
        found = []
        for part in self.parts:
            vector_BH, text_BH = vector_BE[:, part], text_BE[:, part]
            near_B = (vector_BH * text_BH).sum(1)
            usual_B = vector_BH @ self.text_center[part]
            spread_B = ((vector_BH @ self.text_scatter[part, part]) * vector_BH).sum(1)
            found += [near_B, (near_B - usual_B) / spread_B.clamp_min(1e-8).sqrt()]
        return torch.stack(found, 1)

    @torch.no_grad()
    def standardize(self, alone_BS: Tensor, match_BF: Tensor) -> None:
        """Read everything in units of its spread over these."""
        for name, found in (("input", alone_BS), ("match", match_BF)):
            getattr(self, f"{name}_mean").copy_(found.mean(0))
            getattr(self, f"{name}_std").copy_(found.std(0).clamp_min(1e-3))

    def member(self, index: int, alone_BS: Tensor, match_BF: Tensor) -> Tensor:
        """What one product says, (B,)."""
        own_BS = ((alone_BS - self.input_mean) / self.input_std).clamp(-5, 5) * self.reads[index]
        known_BF = ((match_BF - self.match_mean) / self.match_std).clamp(-5, 5)
        skill_B1, right_B1 = self.own[index](own_BS), self.match[index](known_BF) + _LIKELY
        found_B: Tensor = (skill_B1.sigmoid() * right_B1.sigmoid()).squeeze(1)
        return found_B

    def forward(self, alone_BS: Tensor, vector_BE: Tensor, text_BE: Tensor) -> Tensor:
        """What every member says, (B, M).

        Args:
            alone_BS: From `AdapterEncoder.quality_input`, without a description.
            vector_BE: Vectors of the adapters.
            text_BE: Vectors of their descriptions.
        """
        match_BF = self.agreement(vector_BE, text_BE)
        return torch.stack([self.member(i, alone_BS, match_BF) for i in range(len(self.own))], 1)


def _perceptron(inputs: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Dropout(0.1),
        nn.Linear(inputs, hidden),
        nn.GELU(),
        nn.Dropout(0.1),
        nn.Linear(hidden, 1),
    )
