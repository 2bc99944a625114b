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
from lora_gen.evaluation.statistics import mean_interval
from lora_gen.models.quality import QualityEnsemble, spread
from lora_gen.retrieval.corpus import Corpus
from lora_gen.retrieval.facts import FACTS, fact_labels
from lora_gen.retrieval.fit import ridge_solution
from lora_gen.retrieval.reader import CorpusReader
from lora_gen.retrieval.texts import TextBank

_RIDGE = 1e-2


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


def linear_prediction(
    design_NF: Tensor, corpus: Corpus, train: Sequence[int], test: Sequence[int]
) -> Tensor:
    """Accuracy by ridge regression on a standardized design, kept within 0 and 1."""
    mean_F, std_F = design_NF[train].mean(0), design_NF[train].std(0).clamp_min(1e-3)
    known_NF = (design_NF - mean_F) / std_F
    target_B1 = corpus.accuracy[train][:, None]
    center = target_B1.mean()
    weights_F1 = ridge_solution(known_NF[train], target_B1 - center, _RIDGE)
    return (known_NF[list(test)] @ weights_F1 + center).squeeze(1).clamp(0, 1)


@torch.no_grad()
def ensemble_rows(
    reader: CorpusReader, texts: TextBank, entries: Sequence[int]
) -> dict[str, tuple[Tensor, Tensor]]:
    """(what is read, what the members say) with and without the description."""
    vectors_BE, alone_BS = reader.embed(entries)
    agreement_B = reader.agreement(texts, entries, vectors_BE)
    _, told_BS = reader.embed(entries, agreement_B)
    quality = reader.model.quality
    return {
        "weights alone": (alone_BS, quality(alone_BS)),
        "weights and description": (told_BS, quality(told_BS)),
    }


def calibration(
    quality: QualityEnsemble, kind: int, quality_BM: Tensor, truth_B: Tensor
) -> dict[str, Any]:
    """Coverage and width of the intervals; coverage with an interval over adapters."""
    reach_B = quality.reach[kind] * spread(quality_BM)
    low_B = (quality_BM.mean(1) - reach_B).clamp_min(0)
    high_B = (quality_BM.mean(1) + reach_B).clamp_max(1)
    inside_B = (truth_B >= low_B - 1e-6) & (truth_B <= high_B + 1e-6)
    return {
        "coverage": mean_interval(inside_B.double().tolist()).to_dict(),
        "mean width": float((high_B - low_B).mean()),
    }


def fact_table(reader: CorpusReader, inputs_BS: Tensor, entries: Sequence[int]) -> dict[str, Any]:
    """Share of right answers to each question, beside that of always giving the commonest."""
    logits, found, start = reader.model.answer(inputs_BS), {}, 0
    for name, labels in fact_labels(reader.corpus, entries).items():
        stop = start + len(FACTS[name])
        known = labels >= 0
        if bool(known.any()):
            right = logits[known, start:stop].argmax(1) == labels[known]
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


def quality_designs(corpus: Corpus, scale_NF: Tensor, shape_NF: Tensor) -> dict[str, Tensor]:
    """What a simple model could use instead: one row an entry."""
    facts = [json.loads(fact) for fact in corpus.facts]
    recipe = torch.tensor([recipe_row(fact) for fact in facts])
    return {
        "norms": scale_NF,
        "recipe": recipe,
        "norms and recipe": torch.cat([scale_NF, recipe], 1),
        "norms, spectra and recipe": torch.cat([scale_NF, shape_NF, recipe], 1),
        "rank": one_hot([float(fact["rank"]) for fact in facts]),
    }
