"""How well the weights alone tell an adapter's measured accuracy, on tasks and recipes never seen.

Shapes: B adapters, F features, M members of the ensemble, S width of what quality reads.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lora_gen.evaluation.encoder_retrieval import one_hot, recipe_row
from lora_gen.evaluation.statistics import Interval, mean_interval
from lora_gen.models.described_quality import DescribedEnsemble
from lora_gen.models.quality import spread
from lora_gen.retrieval.corpus import Corpus
from lora_gen.retrieval.facts import FACTS, fact_labels
from lora_gen.retrieval.fit import fact_weights, ridge_solution
from lora_gen.retrieval.reader import CorpusReader
from lora_gen.retrieval.texts import TextBank

_RIDGE = 1e-2
DESCRIBED = "weights and description"
_DRAWS = 2_000


def kendall_tau(predicted_B: Tensor, truth_B: Tensor) -> float:
    """Kendall's tau-b, which allows for ties (Kendall, 1945)."""
    left = torch.sign(predicted_B[:, None] - predicted_B[None])
    right = torch.sign(truth_B[:, None] - truth_B[None])
    norm = float((left.abs().sum() * right.abs().sum()).sqrt())
    return float((left * right).sum()) / norm if norm else 0.0


def goodness(predicted_B: Tensor, truth_B: Tensor) -> dict[str, float]:
    """Kendall's tau, R2 and mean absolute error."""
    predicted_B, truth_B = predicted_B.double(), truth_B.double()
    residual = float((truth_B - predicted_B).square().sum())
    total = float((truth_B - truth_B.mean()).square().sum())
    return {
        "tau": kendall_tau(predicted_B, truth_B),
        "r2": 1 - residual / total if total else 0.0,
        "mae": float((truth_B - predicted_B).abs().mean()),
    }


def estimates(
    predicted_B: Tensor,
    truth_B: Tensor,
    clusters: Sequence[str],
    *,
    against_B: Tensor | None = None,
) -> dict[str, Any]:
    """Goodness with 95% bootstrap intervals of tau and R2; whole clusters are drawn.

    Args:
        predicted_B: What a method says.
        truth_B: What was measured.
        clusters: Task of each adapter: adapters of one task rise and fall together.
        against_B: What another method says; the gains over it are drawn in pairs.
    """
    weight_SB = _drawn(clusters)
    own_S = _resampled(predicted_B, truth_B, weight_SB)
    found: dict[str, Any] = dict(goodness(predicted_B, truth_B))
    for name, draws_S in own_S.items():
        found[f"{name} interval"] = _percentiles(found[name], draws_S)
    if against_B is not None:
        other, other_S = goodness(against_B, truth_B), _resampled(against_B, truth_B, weight_SB)
        found["gain"] = {
            name: _percentiles(found[name] - other[name], own_S[name] - other_S[name])
            for name in own_S
        }
    return found


def _drawn(clusters: Sequence[str]) -> Tensor:
    """How often each adapter is drawn, (draws, B)."""
    names = sorted(set(clusters))
    place_B = torch.tensor([names.index(name) for name in clusters])
    random = np.random.default_rng(0)
    counts_SC = random.multinomial(len(names), np.full(len(names), 1 / len(names)), size=_DRAWS)
    return torch.from_numpy(counts_SC).double()[:, place_B]


def _resampled(predicted_B: Tensor, truth_B: Tensor, weight_SB: Tensor) -> dict[str, Tensor]:
    """Tau-b and R2 of weighted adapters, each (draws,)."""
    predicted_B, truth_B = predicted_B.double(), truth_B.double()
    left_BB = torch.sign(predicted_B[:, None] - predicted_B[None])
    right_BB = torch.sign(truth_B[:, None] - truth_B[None])

    def pairs(sign_BB: Tensor) -> Tensor:
        return ((weight_SB @ sign_BB) * weight_SB).sum(1)

    norm_S = (pairs(left_BB.abs()) * pairs(right_BB.abs())).sqrt().clamp_min(1e-12)
    total_S = weight_SB.sum(1)
    mean_S1 = (weight_SB @ truth_B / total_S)[:, None]
    spread_S = (weight_SB * (truth_B - mean_S1).square()).sum(1).clamp_min(1e-12)
    error_S = weight_SB @ (truth_B - predicted_B).square()
    return {"tau": pairs(left_BB * right_BB) / norm_S, "r2": 1 - error_S / spread_S}


def _percentiles(value: float, draws_S: Tensor) -> dict[str, float]:
    low, high = np.quantile(draws_S.numpy(), [0.025, 0.975]).tolist()
    return Interval(value=value, low=low, high=high).to_dict()


def linear_prediction(
    design_NF: Tensor, accuracy_N: Tensor, train: Sequence[int], test: Sequence[int]
) -> Tensor:
    """Accuracy by ridge regression on a standardized design, kept within 0 and 1."""
    mean_F, std_F = design_NF[train].mean(0), design_NF[train].std(0).clamp_min(1e-3)
    known_NF = (design_NF - mean_F) / std_F
    target_B1 = accuracy_N[train][:, None]
    center = target_B1.mean()
    weights_F1 = ridge_solution(known_NF[train], target_B1 - center, _RIDGE)
    return (known_NF[list(test)] @ weights_F1 + center).squeeze(1).clamp(0, 1)


@torch.no_grad()
def ensemble_rows(
    reader: CorpusReader,
    texts: TextBank,
    entries: Sequence[int],
    described: DescribedEnsemble | None = None,
) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """(what is read, what the members say, reach) without the description and with it."""
    vectors_BE, alone_BS = reader.embed(entries)
    agreement_B = reader.agreement(texts, entries, vectors_BE)
    _, told_BS = reader.embed(entries, agreement_B)
    quality = reader.model.quality
    found = {
        "weights alone": (alone_BS, quality(alone_BS), quality.reach[0]),
        DESCRIBED: (told_BS, quality(told_BS), quality.reach[1]),
    }
    if described is not None:
        first = [texts.rows[reader.corpus.tasks[entry]][0] for entry in entries]
        said_BM = described(alone_BS, vectors_BE, reader.embed_texts(texts, first))
        found["weights, one network told the agreement"] = found[DESCRIBED]
        found[DESCRIBED] = (told_BS, said_BM, described.reach[0])
    return found


def calibration(reach: Tensor, quality_BM: Tensor, truth_B: Tensor) -> dict[str, Any]:
    """Coverage and width of the intervals; coverage with an interval over adapters."""
    reach_B = reach * spread(quality_BM)
    low_B = (quality_BM.mean(1) - reach_B).clamp_min(0)
    high_B = (quality_BM.mean(1) + reach_B).clamp_max(1)
    inside_B = (truth_B >= low_B - 1e-6) & (truth_B <= high_B + 1e-6)
    return {
        "coverage": mean_interval(inside_B.double().tolist()).to_dict(),
        "mean width": float((high_B - low_B).mean()),
    }


def right_answers(
    logits_BA: Tensor, corpus: Corpus, entries: Sequence[int]
) -> dict[str, dict[str, Any]]:
    """Share of right answers to each question, beside that of always giving the commonest."""
    found, start = {}, 0
    for name, labels in fact_labels(corpus, entries).items():
        stop = start + len(FACTS[name])
        known = labels >= 0
        if bool(known.any()):
            right = logits_BA[known, start:stop].argmax(1) == labels[known]
            commonest = float(torch.bincount(labels[known]).max() / known.sum())
            balanced = [
                float(right[labels[known] == answer].double().mean())
                for answer in torch.unique(labels[known]).tolist()
            ]
            found[name] = {
                "adapters": int(known.sum()),
                "accuracy": mean_interval(right.double().tolist()).to_dict(),
                "balanced accuracy": float(np.mean(balanced)),
                "commonest answer": commonest,
            }
        start = stop
    return found


def fact_answers(
    design_NF: Tensor, corpus: Corpus, train: Sequence[int], test: Sequence[int]
) -> Tensor:
    """Logits of logistic regressions on a design, fitted as the encoder's own are, (B, answers)."""
    mean_F, std_F = design_NF[train].mean(0), design_NF[train].std(0).clamp_min(1e-3)
    known_NF = ((design_NF - mean_F) / std_F).clamp(-5, 5)
    weights = fact_weights(known_NF[list(train)], fact_labels(corpus, train))
    return known_NF[list(test)] @ weights[:-1] + weights[-1]


def quality_designs(corpus: Corpus, scale_NF: Tensor, shape_NF: Tensor) -> dict[str, Tensor]:
    """What a simple model could use instead: one row an entry."""
    facts = [json.loads(fact) for fact in corpus.facts]
    recipe = torch.tensor([recipe_row(fact) for fact in facts])
    rank = one_hot([float(fact["rank"]) for fact in facts])
    return {
        "norms": scale_NF,
        "recipe": recipe,
        "norms and recipe": torch.cat([scale_NF, recipe], 1),
        "norms, spectra and recipe": torch.cat([scale_NF, shape_NF, recipe], 1),
        "rank": rank,
        "metadata (rank and modules)": torch.cat([rank, (scale_NF > 0).float()], 1),
    }
