"""Predicted accuracy and other answers of an encoder, beside what could fake them.

Shapes: B adapters, N entries of a corpus, F features, S width of what quality reads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from lora_gen.evaluation.encoder_evidence import SEEN, UNSEEN, Evidence
from lora_gen.evaluation.encoder_quality import (
    calibration,
    ensemble_rows,
    estimates,
    fact_answers,
    linear_prediction,
    quality_designs,
    right_answers,
)
from lora_gen.evaluation.encoder_retrieval import by_slot, control_designs
from lora_gen.evaluation.statistics import mean_interval
from lora_gen.models.described_quality import DescribedEnsemble
from lora_gen.retrieval.reader import CorpusReader

REFERENCE = "norms and recipe"
"""What the encoder should beat: a linear model that is told the recipe."""
_DOES, _COMMON = 0.5, 40


def quality_tests(evidence: Evidence) -> dict[str, list[int]]:
    """Name of each test -> adapters of varied recipes that nothing was fitted to."""
    corpus, found = evidence.corpus, dict[str, list[int]]()
    for name, splits, part in (
        ("unseen tasks and recipes", UNSEEN, "test"),
        ("seen tasks, unseen recipes", SEEN, "test"),
        ("unseen tasks, seen recipes", UNSEEN, "train"),
    ):
        chosen = [i for i in corpus.of(splits) if evidence.parts[i] == part]
        found[name] = [i for i in chosen if i >= evidence.first]
    return found


def quality_report(evidence: Evidence, reader: CorpusReader) -> dict[str, Any]:
    """Predicted accuracy against the measured one, on what neither training nor calibration saw."""
    corpus, parts = evidence.corpus, evidence.parts
    train = [i for i in corpus.of(SEEN) if parts[i] == "train"]
    slots = len(reader.model.config.roles) * reader.model.config.depth_bins
    controls = control_designs(corpus, reader.slots, slots)
    norms, spectra = controls["norms"], controls["norms and spectra"]
    designs = quality_designs(corpus, norms, spectra[:, norms.shape[1] :])
    content = by_slot(corpus, reader.slots, slots, lambda rows: reader.content[rows])
    designs["norms and linear sketches"] = torch.cat([norms, content], 1)
    if (described := evidence.encoder.described) is not None:
        rows = [*train, *chain.from_iterable(quality_tests(evidence).values())]
        agreed_NF = _agreement(evidence, reader, described, rows)
        designs["norms, recipe and agreement"] = torch.cat([designs[REFERENCE], agreed_NF], 1)
    facts = {"norms": norms, "metadata (rank and modules)": controls["metadata"]}
    return {
        name: {
            "adapters": len(test),
            **_judged(evidence, reader, designs, (train, test)),
            "facts": _facts(reader, facts, (train, test)),
            "family": family_table(evidence, reader, facts, (train, test)),
        }
        for name, test in quality_tests(evidence).items()
        if len(test) > 2
    }


def _agreement(
    evidence: Evidence, reader: CorpusReader, described: DescribedEnsemble, entries: Sequence[int]
) -> Tensor:
    """How near some adapters and their descriptions are, zeros for the others, (N, F)."""
    texts = evidence.texts
    vectors_BE, _ = reader.embed(entries)
    rows = [texts.rows[evidence.corpus.tasks[i]][0] for i in entries]
    found_BF = described.agreement(vectors_BE, reader.embed_texts(texts, rows))
    return found_BF.new_zeros(len(evidence.corpus), found_BF.shape[1]).index_copy(
        0, torch.tensor(entries), found_BF
    )


def family_table(
    evidence: Evidence,
    reader: CorpusReader,
    designs: Mapping[str, Tensor],
    parts: tuple[Sequence[int], Sequence[int]],
) -> dict[str, Any]:
    """What kind of data an adapter works on, told as that of the nearest adapter of the training.

    The kind is the first word of a task's name where many tasks of the training have it, `general`
    otherwise. Adapters that do not do their task have no kind.
    """
    corpus = evidence.corpus
    train, test = ([i for i in own if corpus.accuracy[i] >= _DOES] for own in parts)
    if not train or not test:
        return {}
    words = Counter(corpus.tasks[i].partition("_")[0] for i in train)
    common = {word for word, count in words.items() if count >= _COMMON}
    kinds = {i: _kind(corpus.tasks[i], common) for i in (*train, *test)}
    found: dict[str, Any] = {
        "adapters": len(test),
        "kinds": len(set(kinds.values())),
        "commonest answer": max(Counter(kinds[i] for i in test).values(), default=0)
        / max(1, len(test)),
    }
    seen = {"nearest adapter": tuple(reader.embed(own)[0] for own in (train, test))}
    seen |= {name: _scaled(design_NF, train, test) for name, design_NF in designs.items()}
    for name, (known_BE, asked_BE) in seen.items():
        nearest = torch.cdist(asked_BE, known_BE).argmin(1).tolist()
        right = [float(kinds[train[n]] == kinds[i]) for n, i in zip(nearest, test, strict=True)]
        found[name] = mean_interval(right).to_dict()
    return found


def _kind(task: str, common: set[str]) -> str:
    word = task.partition("_")[0]
    return word if word in common else "general"


def _scaled(design_NF: Tensor, train: Sequence[int], test: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Rows in standard deviations of the training."""
    known_BF = design_NF[list(train)]
    mean_F, std_F = known_BF.mean(0), known_BF.std(0).clamp_min(1e-3)
    return (known_BF - mean_F) / std_F, (design_NF[list(test)] - mean_F) / std_F


def _judged(
    evidence: Evidence,
    reader: CorpusReader,
    designs: Mapping[str, Tensor],
    parts: tuple[Sequence[int], Sequence[int]],
) -> dict[str, Any]:
    """Every control and the encoder on one test, with what is gained over `REFERENCE`."""
    corpus, (train, test) = evidence.corpus, parts
    truth_B = corpus.accuracy[list(test)]
    tasks = [corpus.tasks[i] for i in test]
    said = {
        name: linear_prediction(design_NF, corpus.accuracy, train, test)
        for name, design_NF in designs.items()
    }
    order = torch.randperm(len(corpus), generator=torch.Generator().manual_seed(0))
    # Rows of other adapters: as a design, that is what permuted labels are.
    said["labels permuted"] = linear_prediction(
        designs["norms and linear sketches"][order], corpus.accuracy, train, test
    )
    found: dict[str, Any] = {
        name: estimates(said_B, truth_B, tasks) for name, said_B in said.items()
    }
    rows = ensemble_rows(reader, evidence.texts, test, evidence.encoder.described)
    for method, (_, quality_BM, reach) in rows.items():
        found[method] = {
            **estimates(quality_BM.mean(1), truth_B, tasks, against_B=said[REFERENCE]),
            **calibration(reach, quality_BM, truth_B),
        }
    alone_BS = rows["weights alone"][0]
    known_B = reader.model.quality.distance(alone_BS) <= reader.model.quality.limit
    return {"known": float(known_B.double().mean()), "methods": found}


def _facts(
    reader: CorpusReader,
    designs: Mapping[str, Tensor],
    parts: tuple[Sequence[int], Sequence[int]],
) -> dict[str, Any]:
    """Share of right answers to each question, and that of simpler models."""
    train, test = parts
    _, alone_BS = reader.embed(list(test))
    found = right_answers(reader.model.answer(alone_BS), reader.corpus, test)
    for name, design_NF in designs.items():
        answers_BA = fact_answers(design_NF, reader.corpus, train, test)
        for question, own in right_answers(answers_BA, reader.corpus, test).items():
            controls = found[question].setdefault("controls", {})
            controls[name] = {key: own[key] for key in ("accuracy", "balanced accuracy")}
    return found
