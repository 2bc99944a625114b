"""The quality of adapters with a description: fitted beside the quality heads, to the same rows.

Shapes: B adapters, E width of vectors, S width of what quality reads.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lora_gen.models.described_quality import DescribedEnsemble
from lora_gen.retrieval.described import text_moments
from lora_gen.retrieval.fit import fit_reach

_BATCH, _LR, _DECAY = 256, 2e-3, 0.05


@dataclass(frozen=True, kw_only=True)
class DescribedRows:
    """Measured adapters with a description."""

    alone: Tensor
    """What quality reads without it, the adapter's vector first, (B, S)."""
    texts: Tensor
    """The description's vector, (B, E)."""
    truth: Tensor
    """Measured accuracy, (B,)."""
    recipes: tuple[str, ...] = ()
    """The recipe of each, where all are known."""

    @property
    def vectors(self) -> Tensor:
        """The adapters' own, (B, E)."""
        return self.alone[:, : self.texts.shape[1]]


def fit_described(
    train: DescribedRows, held: DescribedRows, *, halves: bool, steps: int, cover: float, seed: int
) -> DescribedEnsemble:
    """The ensemble, calibrated on recipes that it has not seen.

    Args:
        train: What it learns from.
        held: What it is calibrated on.
        halves: Whether vectors have two halves.
        steps: Of every member.
        cover: Share of true accuracies that the intervals should hold.
        seed: Of weights, resamples and batches.
    """
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(seed)
        width = train.texts.shape[1]
        found = DescribedEnsemble(train.alone.shape[1], width, halves=halves)
        center_E, scatter_EE = text_moments(torch.unique(train.texts, dim=0))
        found.text_center.copy_(center_E)
        found.text_scatter.copy_(scatter_EE)
        match_BF = found.agreement(train.vectors, train.texts)
        found.standardize(train.alone, match_BF)
        _train(found, train.alone, match_BF, train.truth, steps)
    found.requires_grad_(False).train(False)
    fit_reach(
        found,
        0,
        found(held.alone, held.vectors, held.texts),
        held.truth,
        cover=cover,
        groups=held.recipes,
    )
    return found


def _train(
    ensemble: DescribedEnsemble, alone_BS: Tensor, match_BF: Tensor, truth_B: Tensor, steps: int
) -> None:
    """Squared error of each member on a resample of its own."""
    members, count = len(ensemble.own), len(truth_B)
    optimizer = torch.optim.AdamW(ensemble.parameters(), lr=_LR, weight_decay=_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
    resample_MB = torch.randint(count, (members, count))
    ensemble.train(True)
    for _ in range(steps):
        losses = []
        for index, own in enumerate(resample_MB):
            chosen = own[torch.randint(count, (min(_BATCH, count),))]
            found_B = ensemble.member(index, alone_BS[chosen], match_BF[chosen])
            losses.append(nn.functional.mse_loss(found_B, truth_B[chosen]))
        optimizer.zero_grad(set_to_none=True)
        torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
