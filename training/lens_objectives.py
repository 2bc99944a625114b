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


def _log_neighbors(vectors_BPE: Tensor, temperature: float) -> Tensor:
    similarity_BPP = vectors_BPE @ vectors_BPE.mT / temperature
    self_PP = torch.eye(vectors_BPE.shape[1], dtype=torch.bool, device=vectors_BPE.device)
    return similarity_BPP.masked_fill(self_PP, -1e4).log_softmax(-1)
