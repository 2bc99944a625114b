"""What is fitted to a corpus in closed form: main directions, read-outs, conformal reach, support.

Shapes: T modules of many adapters, F raw features, D directions, S width of a summary.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lora_gen.models.adapter_encoder import AdapterEncoder, ModuleSet
from lora_gen.models.quality import QualityEnsemble, spread
from lora_gen.retrieval.corpus import Corpus

_ROWS = 2_000
"""Modules of a role that its directions are fitted to, at most."""


def fit_projection(
    model: AdapterEncoder, corpus: Corpus, slots_T: Tensor, entries: Sequence[int]
) -> None:
    """Centers of slots and main directions of roles over some entries, into the buffers."""
    chosen_T = torch.cat([modules_of(corpus, i) for i in entries])
    side_TS = corpus.side[chosen_T]
    model.side_mean.copy_(side_TS.mean(0))
    model.side_std.copy_(side_TS.std(0).clamp_min(1e-3))
    for slot in torch.unique(slots_T[chosen_T]).tolist():
        rows_T = chosen_T[slots_T[chosen_T] == slot]
        if slot >= 0:
            model.center[slot] = corpus.sketches[rows_T].float().mean(0)
    for role in range(len(model.config.roles)):
        rows_T = chosen_T[slots_T[chosen_T] // model.config.depth_bins == role]
        rows_T = rows_T[:: max(1, len(rows_T) // _ROWS)]
        if not len(rows_T):
            continue
        sample_TF = corpus.sketches[rows_T].float() - model.center[slots_T[rows_T]]
        width = min(model.config.token_dim, *sample_TF.shape)
        with torch.random.fork_rng():
            torch.manual_seed(role)  # the range finder is random; the same in every run
            _, values_D, basis_FD = torch.svd_lowrank(sample_TF, q=width, niter=1)
        # One scale for all directions, not whitening: the large ones carry the task.
        size = values_D.square().sum().div(len(sample_TF) * width).sqrt().clamp_min(1e-6)
        model.basis[role].zero_()
        model.basis[role, :, :width] = basis_FD / size


@dataclass(frozen=True, kw_only=True)
class TextProjection:
    """Main directions of descriptions, half whitened."""

    center: Tensor
    """(S,)"""
    basis: Tensor
    """(S, E); projected texts have unit length on average."""

    @classmethod
    def fit(cls, corpus: Corpus, entries: Sequence[int], width: int) -> TextProjection:
        """The directions of all descriptions of some entries, zero-padded to `width`."""
        wanted = torch.zeros(len(corpus), dtype=torch.bool)
        wanted[list(entries)] = True
        texts_TS = corpus.segments[wanted[corpus.owners]].float().flatten(1)
        center_S = texts_TS.mean(0)
        rank = min(width, *texts_TS.shape)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            _, values_E, basis_SE = torch.svd_lowrank(texts_TS - center_S, q=rank, niter=2)
        basis_SE = basis_SE / values_E.clamp_min(1e-6).sqrt()
        size = ((texts_TS - center_S) @ basis_SE).norm(dim=1).mean().clamp_min(1e-6)
        padded_SE = nn.functional.pad(basis_SE / size, (0, width - rank))
        return cls(center=center_S, basis=padded_SE)

    def __call__(self, segments_TGC: Tensor) -> Tensor:
        """Projected texts, (T, E)."""
        return (segments_TGC.float().flatten(1) - self.center) @ self.basis

    def means(self, corpus: Corpus, entries: Sequence[int]) -> Tensor:
        """Mean projected description of each entry, (B, E)."""
        sums_BE = torch.zeros(len(corpus), self.basis.shape[1])
        sums_BE.index_add_(0, corpus.owners, self(corpus.segments))
        counts_B = torch.bincount(corpus.owners, minlength=len(corpus)).clamp_min(1)
        return (sums_BE / counts_B[:, None])[list(entries)]


def ridge_solution(design_BF: Tensor, target_BE: Tensor, ridge: float) -> Tensor:
    """Weights (F, E) of ridge regression, by the dual problem.

    Args:
        design_BF: One row an adapter.
        target_BE: What each row should give.
        ridge: Penalty, in units of the mean squared norm of a row.
    """
    kernel_BB = design_BF @ design_BF.mT
    penalty = ridge * kernel_BB.diagonal().mean().clamp_min(1e-12)
    dual_BE = torch.linalg.solve(kernel_BB + penalty * torch.eye(len(kernel_BB)), target_BE)
    weights_FE: Tensor = design_BF.mT @ dual_BE
    return weights_FE


@torch.no_grad()
def fit_readout(
    model: AdapterEncoder, modules: Iterable[ModuleSet], target_BE: Tensor, ridge: float
) -> None:
    """The read-out of weights: ridge regression from projected modules to descriptions.

    Args:
        model: Its `readout` is set.
        modules: Adapters in batches, in the order of `target_BE`.
        target_BE: What each adapter's sum over modules should be.
        ridge: Penalty, in units of the mean squared norm of an adapter's features.
    """
    rows = []
    for batch in modules:
        flat = batch.content.new_zeros(len(batch.mask), *model.readout.shape[:2])
        row, column = torch.where(batch.mask & (batch.slots >= 0))
        flat.index_put_((row, batch.slots[row, column]), batch.content[row, column], True)
        rows.append(flat.flatten(1))
    design_BF = torch.cat(rows)
    found = ridge_solution(design_BF, target_BE, ridge)
    size = (design_BF @ found).norm(dim=1).mean().clamp_min(1e-6)
    model.readout.copy_((found / size).view_as(model.readout))


def modules_of(corpus: Corpus, entry: int) -> Tensor:
    """Rows of the corpus that belong to an entry."""
    start, stop = corpus.offsets[entry : entry + 2].tolist()
    return torch.arange(start, stop)


def fit_reach(ensemble: QualityEnsemble, quality_BM: Tensor, truth_B: Tensor, cover: float) -> None:
    """Split-conformal quantile on adapters that no member was trained on.

    Source: Lei et al., JASA 2018; residuals are divided by what the ensemble's disagreement
    suggests.
    """
    score_B = (truth_B - quality_BM.mean(1)).abs() / spread(quality_BM)
    rank = math.ceil((len(score_B) + 1) * cover)
    reach = score_B.sort().values[rank - 1] if rank <= len(score_B) else torch.tensor(math.inf)
    ensemble.reach.copy_(reach)


def fit_support(ensemble: QualityEnsemble, train_BS: Tensor, held_BS: Tensor) -> None:
    """Mahalanobis gate: center and shrunk precision of the training, 99% of the held out."""
    ensemble.center.copy_(train_BS.mean(0))
    offset_BS = (train_BS - ensemble.center).double()
    covariance_SS = offset_BS.mT @ offset_BS / max(1, len(offset_BS) - 1)
    diagonal_SS = torch.diag(covariance_SS.diagonal().clamp_min(1e-8))
    ensemble.precision.copy_(torch.linalg.inv(0.9 * covariance_SS + 0.1 * diagonal_SS))
    ensemble.limit.copy_(ensemble.distance(held_BS).quantile(0.99))


def stacked_modules(
    corpus: Corpus, entries: Sequence[int], content_TD: Tensor, slots_T: Tensor
) -> ModuleSet:
    """Entries of a corpus as one padded set."""
    rows = [modules_of(corpus, i) for i in entries]
    lengths = torch.tensor([len(row) for row in rows])
    mask_BN = torch.arange(int(lengths.max()))[None] < lengths[:, None]
    index_BN = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    return ModuleSet(
        content=content_TD[index_BN].float(),
        slots=slots_T[index_BN],
        side=corpus.side[index_BN],
        scale=corpus.scale[index_BN],
        mask=mask_BN,
    )
