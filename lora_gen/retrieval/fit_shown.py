"""The half of a vector that says what a task is to the base itself, in closed form.

Shapes: N tasks, S width of shown states, T texts, P width of a pooled text, H half of a vector.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

_DIRECTIONS, _TEXT_ROWS = 500, 8_000
_WHITENING = 0.25
"""Power of the spread that directions are divided by: 0 leaves them, 1 whitens."""
_RIDGE = 1e-2


@dataclass(frozen=True, kw_only=True)
class StateProjection:
    """Main directions of the states that tasks leave in a base."""

    center: Tensor
    """(S,)"""
    basis: Tensor
    """(S, H); projected tasks have unit length on average."""

    @classmethod
    def fit(cls, states_NS: Tensor, groups: int, width: int) -> StateProjection:
        """Principal directions, each layer in units of its own spread, a little whitened.

        Args:
            states_NS: Tasks.
            groups: Layers and kinds of states that lie side by side.
            width: H; zero-padded where there are fewer directions.
        """
        center_S = states_NS.mean(0)
        spread_G = states_NS.view(len(states_NS), groups, -1).std(0).mean(1).clamp_min(1e-6)
        scale_S = spread_G.repeat_interleave(len(center_S) // groups)
        x_NS = (states_NS - center_S) / scale_S
        values_S, vectors_SS = torch.linalg.eigh((x_NS.mT @ x_NS / len(x_NS)).double())
        kept = min(width, len(values_S), len(states_NS))
        values_H, main_SH = values_S.flip(0)[:kept], vectors_SS.flip(1)[:, :kept]
        basis_SH = (main_SH / values_H.clamp_min(1e-9).pow(_WHITENING / 2)).float()
        basis_SH = basis_SH / scale_S[:, None]
        size = ((states_NS - center_S) @ basis_SH).norm(dim=1).mean().clamp_min(1e-6)
        padded_SH = nn.functional.pad(basis_SH / size, (0, width - kept))
        return cls(center=center_S, basis=padded_SH)

    def __call__(self, states_NS: Tensor) -> Tensor:
        """Projected states, (N, H)."""
        return (states_NS - self.center) @ self.basis


def fit_text_to_states(pooled_TP: Tensor, center_P: Tensor, target_TH: Tensor) -> Tensor:
    """Weights (P, H) from pooled texts to what their tasks are to the base, by ridge regression.

    Args:
        pooled_TP: Texts.
        center_P: Subtracted from them.
        target_TH: Projected states of the task of each.
    """
    x_TP = pooled_TP - center_P
    rank = min(_DIRECTIONS, *x_TP.shape)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sample_TP = x_TP[:: max(1, len(x_TP) // _TEXT_ROWS)]
        main_PD = torch.svd_lowrank(sample_TP, q=rank, niter=1)[2]
    x_TD = x_TP @ main_PD
    gram_DD = x_TD.mT @ x_TD
    penalty = _RIDGE * gram_DD.diagonal().mean().clamp_min(1e-9)
    found_DH = torch.linalg.solve(gram_DD + penalty * torch.eye(rank), x_TD.mT @ target_TH)
    weights_PH: Tensor = main_PD @ found_DH
    return weights_PH
