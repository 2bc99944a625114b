"""The quality of generated adapters, fitted and calibrated in closed form.

Shapes: N adapters, F what is read of each, K knots.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

import torch
from torch import Tensor

from lora_gen.retrieval.generated import GeneratedQuality, Learned, interpolated

PENALTIES = (0.3, 1.0, 3.0, 10.0)
"""Of ridge regression on standardized inputs; one is chosen by cross-validation."""
_FOLDS, _KNOTS, _NEAR = 5, 9, 0.15
_BENIGN_SHARE = 0.99


@dataclass(frozen=True, kw_only=True)
class GeneratedRows:
    """Generated adapters whose accuracy was measured."""

    inputs: Tensor
    """(N, F)"""
    truth: Tensor
    """Accuracy, (N,)."""
    tasks: tuple[str, ...]
    kinds: tuple[str, ...]
    """What was new to the generator; every kind counts the same."""
    ranks: tuple[int, ...]

    def of(self, chosen: Sequence[int]) -> GeneratedRows:
        """Some of the rows."""
        return GeneratedRows(
            inputs=self.inputs[list(chosen)],
            truth=self.truth[list(chosen)],
            tasks=tuple(self.tasks[n] for n in chosen),
            kinds=tuple(self.kinds[n] for n in chosen),
            ranks=tuple(self.ranks[n] for n in chosen),
        )

    def shares(self) -> Tensor:
        """Weights of adapters that let every kind count the same; they sum to one, (N,)."""
        counts = {kind: self.kinds.count(kind) for kind in set(self.kinds)}
        found_N = torch.tensor([1 / counts[kind] for kind in self.kinds]).double()
        return found_N / found_N.sum()


def part_of(task: str) -> str:
    """Whether a task fits, calibrates or tests: half, a quarter and a quarter of all."""
    draw = blake2b(f"generated/{task}".encode(), digest_size=1).digest()[0] % 4
    return ("fit", "fit", "calibration", "test")[draw]


def fit_generated(
    learned: Learned, fit: GeneratedRows, held: GeneratedRows, *, cover: float = 0.9
) -> GeneratedQuality:
    """Regression on some tasks, interval and support on others.

    Args:
        learned: What the generator learned from.
        fit: Adapters to fit to.
        held: Adapters of other tasks, to calibrate on.
        cover: Share of true accuracies that the intervals should hold.
    """
    share_N = fit.shares()
    mean_F = fit.inputs.mean(0)
    std_F = fit.inputs.std(0).clamp_min(1e-3)
    known_NF = ((fit.inputs - mean_F) / std_F).clamp(-5, 5).double()
    guesses = {ridge: _left_out(known_NF, fit, share_N, ridge) for ridge in PENALTIES}
    losses = {
        ridge: float((share_N * (guess_N - fit.truth).square()).sum())
        for ridge, guess_N in guesses.items()
    }
    ridge = min(losses, key=losses.__getitem__)
    guess_N = guesses[ridge].clamp(0, 1)
    knots_K = torch.linspace(0.0, 1.0, _KNOTS)
    found = GeneratedQuality(
        learned=learned,
        mean=mean_F,
        std=std_F,
        weights=_ridge(known_NF, fit.truth.double(), share_N, ridge).float(),
        knots=knots_K,
        errors=_local_errors(guess_N, (guess_N - fit.truth).abs().double(), share_N, knots_K),
        reach=torch.tensor(math.inf),
        limit=torch.tensor(0.0),
        max_rank=torch.tensor(max(held.ranks)),
    )
    predicted_N = found.predict(held.inputs)
    size_N = interpolated(predicted_N, found.knots, found.errors)
    reach = _quantile((held.truth - predicted_N).abs() / size_N, held.shares(), cover)
    limit = _quantile(found.distance(held.inputs), held.shares(), _BENIGN_SHARE)
    return replace(found, reach=torch.tensor(reach), limit=torch.tensor(limit))


def _left_out(known_NF: Tensor, rows: GeneratedRows, share_N: Tensor, ridge: float) -> Tensor:
    """What regressions say that were fitted without the adapter's task, (N,)."""
    fold_N = torch.tensor(
        [blake2b(task.encode(), digest_size=1).digest()[0] % _FOLDS for task in rows.tasks]
    )
    guess_N = torch.zeros(len(fold_N))
    for fold in torch.unique(fold_N).tolist():
        inside, outside = fold_N == fold, fold_N != fold
        weights = _ridge(known_NF[outside], rows.truth[outside].double(), share_N[outside], ridge)
        guess_N[inside] = (known_NF[inside] @ weights[:-1] + weights[-1]).float()
    return guess_N


def _ridge(known_NF: Tensor, truth_N: Tensor, share_N: Tensor, ridge: float) -> Tensor:
    """Weights and, last, the offset, (F + 1,)."""
    share_N = share_N / share_N.sum()
    center_F, middle = share_N @ known_NF, share_N @ truth_N
    root_N1 = share_N.sqrt()[:, None]
    design_NF = root_N1 * (known_NF - center_F)
    target_N = root_N1.squeeze(1) * (truth_N - middle)
    gram_FF = design_NF.mT @ design_NF + ridge * torch.eye(design_NF.shape[1]).double()
    weights_F = torch.linalg.solve(gram_FF, design_NF.mT @ target_N)
    return torch.cat([weights_F, (middle - center_F @ weights_F)[None]])


def _local_errors(guess_N: Tensor, error_N: Tensor, share_N: Tensor, knots_K: Tensor) -> Tensor:
    """Mean absolute error of guesses near each knot, (K,)."""
    near_KN = (-0.5 * ((guess_N - knots_K[:, None]) / _NEAR).square()).exp() * share_N
    return ((near_KN @ error_N) / near_KN.sum(1)).clamp_min(0.02).float()


def _quantile(score_N: Tensor, share_N: Tensor, level: float) -> float:
    """Weighted quantile with the share of one more adapter at infinity (Tibshirani et al., 2019).

    Infinite where there are too few adapters for the level.
    """
    sorted_N, order_N = score_N.sort()
    one_more = float(share_N.mean())
    running_N = share_N[order_N].cumsum(0) / (1 + one_more)
    place = int(torch.searchsorted(running_N, level))
    return float(sorted_N[place]) if place < len(sorted_N) else math.inf
