"""What is fitted to a corpus in closed form: texts, conformal reach, support, facts.

Shapes: T modules of many adapters, F raw features, D directions, S width of a summary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lora_gen.models.adapter_encoder import AdapterEncoder, ModuleSet
from lora_gen.models.described_quality import DescribedEnsemble
from lora_gen.models.quality import QualityEnsemble, spread
from lora_gen.retrieval.corpus import Corpus
from lora_gen.retrieval.facts import FACTS

_TEXT_ROWS, _TEXT_DIRECTIONS, _SHRINKAGE = 8_000, 400, 0.3
"""Texts that main directions are fitted to, how many are kept, and how far their scatter within
tasks is drawn to a sphere."""


@dataclass(frozen=True, kw_only=True)
class TextProjection:
    """Directions along which descriptions of different tasks differ more than those of one."""

    center: Tensor
    """(S,)"""
    basis: Tensor
    """(S, E); projected texts have unit length on average."""

    @classmethod
    def fit(cls, pooled_TS: Tensor, owners_T: Tensor, width: int) -> TextProjection:
        """Linear discriminant analysis of descriptions, half whitened between tasks.

        Wordings of one task teach what is wording and nothing else, so every task counts that has
        two descriptions, with or without an adapter. Source: Fisher, 1936; shrinkage of the scatter
        within tasks as in Friedman, 1989.

        Args:
            pooled_TS: Texts.
            owners_T: The task of each, numbered from 0.
            width: E; zero-padded where there are fewer directions.
        """
        center_S = pooled_TS.mean(0)
        rank = min(_TEXT_DIRECTIONS, *pooled_TS.shape)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            sample_TS = pooled_TS[:: max(1, len(pooled_TS) // _TEXT_ROWS)] - center_S
            main_SD = torch.svd_lowrank(sample_TS, q=rank, niter=1)[2]
        x_TD = (pooled_TS - center_S) @ main_SD
        counts_N = torch.bincount(owners_T).clamp_min(1)
        means_ND = torch.zeros(len(counts_N), rank).index_add_(0, owners_T, x_TD)
        means_ND = means_ND / counts_N[:, None]
        within_DD = _scatter(x_TD - means_ND[owners_T])
        jitter = _SHRINKAGE * within_DD.diagonal().mean() + 1e-6 * _scatter(x_TD).diagonal().mean()
        root_DD = torch.linalg.cholesky(within_DD + jitter * torch.eye(rank))
        white_ND = torch.linalg.solve_triangular(root_DD, means_ND.mT, upper=False).mT
        values_D, vectors_DD = torch.linalg.eigh(_scatter(white_ND - white_ND.mean(0)))
        kept = min(width, rank)
        values_E, vectors_DE = values_D.flip(0)[:kept], vectors_DD.flip(1)[:, :kept]
        basis_DE = torch.linalg.solve_triangular(root_DD.mT, vectors_DE, upper=True)
        basis_SE = main_SD @ (basis_DE / values_E.clamp_min(1e-6).pow(0.25))
        size = ((pooled_TS - center_S) @ basis_SE).norm(dim=1).mean().clamp_min(1e-6)
        padded_SE = nn.functional.pad(basis_SE / size, (0, width - kept))
        return cls(center=center_S, basis=padded_SE)

    def __call__(self, pooled_TS: Tensor) -> Tensor:
        """Projected texts, (T, E)."""
        return (pooled_TS - self.center) @ self.basis


def _scatter(x_TD: Tensor) -> Tensor:
    return x_TD.mT @ x_TD / len(x_TD)


def ridge_solution(design_BF: Tensor, target_BE: Tensor, ridge: float) -> Tensor:
    """Weights (F, E) of ridge regression, by the smaller of the two problems.

    Args:
        design_BF: One row an adapter.
        target_BE: What each row should give.
        ridge: Penalty, in units of the mean squared norm of a row.
    """
    penalty = ridge * design_BF.square().sum(1).mean().clamp_min(1e-12)
    count, width = design_BF.shape
    if width < count:
        gram_FF = design_BF.mT @ design_BF + penalty * torch.eye(width)
        weights_FE: Tensor = torch.linalg.solve(gram_FF, design_BF.mT @ target_BE)
        return weights_FE
    kernel_BB = design_BF @ design_BF.mT + penalty * torch.eye(count)
    weights_FE = design_BF.mT @ torch.linalg.solve(kernel_BB, target_BE)
    return weights_FE


def modules_of(corpus: Corpus, entry: int) -> Tensor:
    """Rows of the corpus that belong to an entry."""
    start, stop = corpus.offsets[entry : entry + 2].tolist()
    return torch.arange(start, stop)


def fit_reach(
    ensemble: QualityEnsemble | DescribedEnsemble,
    kind: int,
    quality_BM: Tensor,
    truth_B: Tensor,
    *,
    cover: float,
    groups: Sequence[str] = (),
) -> None:
    """Split-conformal quantile on adapters that no member was trained on.

    Source: Lei et al., JASA 2018; residuals are divided by what the ensemble's disagreement
    suggests. Adapters of one recipe err alike, so it is recipes that count (Dunn et al., JASA
    2022): the mean cover over groups, less its standard error, must reach `cover`.

    Args:
        ensemble: Its `reach` is set.
        kind: 0 for predictions without a description, 1 for those with one; 0 where an ensemble
            has but one.
        quality_BM: What the members say.
        truth_B: What was measured.
        cover: Share of true values that the intervals should hold.
        groups: The recipe of each adapter; without it, every adapter is its own.
    """
    score_B = (truth_B - quality_BM.mean(1)).abs() / spread(quality_BM)
    rank = math.ceil((len(score_B) + 1) * cover)
    sorted_B = score_B.sort().values
    reach = sorted_B[rank - 1] if rank <= len(score_B) else torch.tensor(math.inf)
    members = [torch.tensor([own == name for own in groups]) for name in sorted(set(groups))]
    if len(members) > 2:
        inside_GB = torch.stack(
            [
                (score_B[chosen][:, None] <= sorted_B).double().mean(0)
                for chosen in (member.to(score_B.device) for member in members)
            ]
        )
        error_B = inside_GB.std(0) / len(members) ** 0.5
        enough = (inside_GB.mean(0) - error_B >= cover).nonzero()
        reach = torch.maximum(reach, sorted_B[int(enough[0])] if len(enough) else sorted_B[-1])
    ensemble.reach[kind] = reach


def fit_support(ensemble: QualityEnsemble, train_BS: Tensor, held_BS: Tensor, share: float) -> None:
    """Mahalanobis gate: center and shrunk precision of the training, a share of the held out."""
    scaled_BS = (train_BS - ensemble.mean) / ensemble.std
    ensemble.center.copy_(scaled_BS.mean(0))
    offset_BS = (scaled_BS - ensemble.center).double()
    covariance_SS = offset_BS.mT @ offset_BS / max(1, len(offset_BS) - 1)
    # A quarter of a standard deviation: what never varied in training must not decide alone.
    diagonal_SS = torch.diag(covariance_SS.diagonal().clamp_min(0.0625))
    ensemble.precision.copy_(torch.linalg.inv(0.9 * covariance_SS + 0.1 * diagonal_SS))
    ensemble.limit.copy_(ensemble.distance(held_BS).quantile(share))


def fit_facts(
    model: AdapterEncoder, input_BS: Tensor, labels: Mapping[str, Tensor], *, ridge: float = 1e-2
) -> None:
    """Multinomial logistic regression of the answers to each question, into the buffer.

    Args:
        model: Its `answers` are set; its quality heads have their units.
        input_BS: What quality reads, without descriptions.
        labels: Question -> answers, -1 where unknown, in the order of `FACTS`.
        ridge: Penalty of squared weights.
    """
    known_BS = ((input_BS - model.quality.mean) / model.quality.std).clamp(-5, 5)
    model.answers.copy_(fact_weights(known_BS, labels, ridge=ridge))


def fact_weights(known_BS: Tensor, labels: Mapping[str, Tensor], *, ridge: float = 1e-2) -> Tensor:
    """Weights and, in the last row, offsets of the answers to all questions, (S + 1, answers)."""
    found = []
    for name, answers in FACTS.items():
        chosen_B = labels[name] >= 0
        if bool(chosen_B.any()):
            own = _logistic(known_BS[chosen_B], labels[name][chosen_B], len(answers), ridge)
        else:
            own = known_BS.new_zeros(known_BS.shape[1] + 1, len(answers))
        found.append(own)
    return torch.cat(found, 1)


def _logistic(x_BS: Tensor, label_B: Tensor, answers: int, ridge: float) -> Tensor:
    """Weights and, in the last row, offsets, (S + 1, answers)."""
    with torch.enable_grad():
        weights = torch.zeros(x_BS.shape[1] + 1, answers, requires_grad=True)
        optimizer = torch.optim.LBFGS([weights], max_iter=60, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimizer.zero_grad()
            logits = x_BS @ weights[:-1] + weights[-1]
            loss = nn.functional.cross_entropy(logits, label_B)
            loss = loss + ridge * weights[:-1].square().sum()
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        optimizer.step(closure)  # type: ignore[no-untyped-call]
    return weights.detach()


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
