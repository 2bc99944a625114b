"""What is asked of a generated lens: to see sentences as like each other as a good lens does."""

from __future__ import annotations

import torch
from torch import Tensor


def similarity_loss(vectors_BPE: Tensor, teacher_BPE: Tensor, temperature: float) -> Tensor:
    """Divergence of each sentence's neighbors from those under a teacher, (B,).

    Each sentence's cosines with the others, over the temperature, are taken for a distribution; the
    loss is the mean Kullback-Leibler divergence from the teacher's. Zero where both lenses see the
    same similarities, however their spaces are turned.

    Args:
        vectors_BPE: Unit vectors of P sentences under B lenses.
        teacher_BPE: Those under the lenses to learn from.
        temperature: As in the contrastive loss that trained them.
    """
    own_BPP, teacher_BPP = (_log_neighbors(v, temperature) for v in (vectors_BPE, teacher_BPE))
    return (teacher_BPP.exp() * (teacher_BPP - own_BPP)).sum(-1).mean(-1)


def agreement_loss(vectors_BPE: Tensor, wanted_BPP: Tensor) -> Tensor:
    """One minus the correlation of each sentence's cosines with wanted ones, (B,).

    Only who is nearer than whom counts, and by how much beside the rest. A contrastive loss is
    large where the base is sure and wrong, so that a young generator learns first to make all
    sentences alike, and stays there (recipes/LOG.md); here that is no better than chance.

    Args:
        vectors_BPE: Unit vectors of P sentences under B lenses.
        wanted_BPP: How near they should be, such as 1 for two of one value and 0 for others.
    """
    own_BPP, goal_BPP = (_standard(x) for x in (vectors_BPE @ vectors_BPE.mT, wanted_BPP))
    return 1 - (own_BPP * goal_BPP).sum(-1).mean(-1)


def _standard(rows_BPP: Tensor) -> Tensor:
    """Rows without their diagonal, of mean zero and length one; zero where all are equal."""
    others_PP = 1 - torch.eye(rows_BPP.shape[1], device=rows_BPP.device)
    mean_BP1 = (rows_BPP * others_PP).sum(-1, keepdim=True) / (rows_BPP.shape[1] - 1)
    centered_BPP = (rows_BPP - mean_BP1) * others_PP
    return centered_BPP / (centered_BPP.square().sum(-1, keepdim=True) + 1e-10).sqrt()


def _log_neighbors(vectors_BPE: Tensor, temperature: float) -> Tensor:
    similarity_BPP = vectors_BPE @ vectors_BPE.mT / temperature
    self_PP = torch.eye(vectors_BPE.shape[1], dtype=torch.bool, device=vectors_BPE.device)
    return similarity_BPP.masked_fill(self_PP, -1e4).log_softmax(-1)
