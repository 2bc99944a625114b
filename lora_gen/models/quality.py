"""Predicted accuracy: an ensemble whose disagreement says how sure it is."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class QualityEnsemble(nn.Module):
    """Independent perceptrons over one summary; (B, S) -> (B, members), each in [0, 1].

    The buffers hold what calibration on adapters that no member was trained on has found.
    """

    reach: Tensor
    """Conformal quantile of |error| over the width that `spread` gives; infinite before."""
    center: Tensor
    precision: Tensor
    limit: Tensor
    """Largest Mahalanobis distance that counts as known; zero before calibration."""

    def __init__(self, summary_dim: int, hidden_dim: int, members: int = 5) -> None:
        super().__init__()
        self.members = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(summary_dim),
                nn.Dropout(0.1),
                nn.Linear(summary_dim, hidden_dim),
                nn.GELU(),
                nn.Linear(hidden_dim, 1),
            )
            for _ in range(members)
        )
        self.register_buffer("reach", torch.tensor(torch.inf))
        self.register_buffer("center", torch.zeros(summary_dim))
        self.register_buffer("precision", torch.zeros(summary_dim, summary_dim))
        self.register_buffer("limit", torch.tensor(0.0))

    def forward(self, summary_BS: Tensor) -> Tensor:
        """See the class."""
        logits = torch.cat([member(summary_BS) for member in self.members], -1)
        return logits.float().sigmoid()

    def distance(self, summary_BS: Tensor) -> Tensor:
        """Mahalanobis distance from the adapters it was trained on, (B,)."""
        offset_BS = summary_BS - self.center
        return torch.einsum("bi,ij,bj->b", offset_BS, self.precision, offset_BS).clamp_min(0).sqrt()


def spread(quality_BM: Tensor) -> Tensor:
    """Width that the ensemble's disagreement suggests, (B,); never zero."""
    return quality_BM.std(-1) + 0.02
