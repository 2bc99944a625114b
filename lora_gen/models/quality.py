"""Predicted accuracy: an ensemble whose disagreement says how sure it is."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class QualityEnsemble(nn.Module):
    """Independent perceptrons over one summary; (B, S) -> (B, members), each in [0, 1].

    The buffers hold what calibration on adapters that no member was trained on has found.
    """

    mean: Tensor
    std: Tensor
    reach: Tensor
    """Conformal quantile of |error| over the width that `spread` gives, without and with a
    description; infinite before."""
    center: Tensor
    precision: Tensor
    limit: Tensor
    """Largest Mahalanobis distance that counts as known; zero before calibration."""

    def __init__(self, summary_dim: int, hidden_dim: int, members: int = 5) -> None:
        super().__init__()
        self.members = nn.ModuleList(
            nn.Sequential(
                nn.Dropout(0.1),
                nn.Linear(summary_dim, hidden_dim),
                nn.GELU(),
                nn.Dropout(0.1),
                nn.Linear(hidden_dim, 1),
            )
            for _ in range(members)
        )
        self.register_buffer("mean", torch.zeros(summary_dim))
        self.register_buffer("std", torch.ones(summary_dim))
        self.register_buffer("reach", torch.full((2,), torch.inf))
        self.register_buffer("center", torch.zeros(summary_dim))
        self.register_buffer("precision", torch.zeros(summary_dim, summary_dim))
        self.register_buffer("limit", torch.tensor(0.0))

    @torch.no_grad()
    def standardize(self, summary_BS: Tensor) -> None:
        """Read everything in units of its spread over these."""
        self.mean.copy_(summary_BS.mean(0))
        self.std.copy_(summary_BS.std(0).clamp_min(1e-3))

    def member(self, index: int, summary_BS: Tensor) -> Tensor:
        """What one perceptron says, (B,)."""
        # Far outside what it was trained on, a value is only "far"; the gate says so.
        known_BS = ((summary_BS - self.mean) / self.std).clamp(-5, 5)
        return torch.sigmoid(self.members[index](known_BS).squeeze(-1).float())

    def forward(self, summary_BS: Tensor) -> Tensor:
        """See the class."""
        return torch.stack([self.member(i, summary_BS) for i in range(len(self.members))], -1)

    def distance(self, summary_BS: Tensor) -> Tensor:
        """Mahalanobis distance from the adapters it was trained on, (B,)."""
        offset_BS = (summary_BS - self.mean) / self.std - self.center
        return torch.einsum("bi,ij,bj->b", offset_BS, self.precision, offset_BS).clamp_min(0).sqrt()


def spread(quality_BM: Tensor) -> Tensor:
    """Width that the ensemble's disagreement suggests, (B,); never near zero."""
    return quality_BM.std(-1) + 0.05
