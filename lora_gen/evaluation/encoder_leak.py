"""How much of an adapter's recipe its vector gives away, and whether that costs retrieval.

A reversed gradient would train a network to hide the recipe. A vector in closed form can be freed
of it exactly: without the directions in which the means of recipes differ, no linear model tells
them apart (Belrose et al., arXiv 2306.03819; here without whitening). What retrieval gains or loses
by that says whether hiding the recipe would help.

Shapes: B adapters, E width of vectors, F features, Q queries.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lora_gen.evaluation.encoder_evidence import GALLERY, SEEN, UNSEEN, Evidence
from lora_gen.evaluation.encoder_retrieval import control_designs, make_gallery, one_hot, summary
from lora_gen.evaluation.statistics import mean_interval
from lora_gen.retrieval.corpus import Corpus
from lora_gen.retrieval.fit import ridge_solution
from lora_gen.retrieval.reader import CorpusReader

QUESTIONS = ("rank", "targets", "lr", "steps")
_RIDGE = 1e-2
_FEWEST = 20


def leak_report(evidence: Evidence, reader: CorpusReader) -> dict[str, Any]:
    """What vectors tell of recipes, and retrieval with these directions taken out.

    Asked of adapters of unseen tasks whose recipes were seen; nothing where there are too few.
    """
    corpus, parts = evidence.corpus, evidence.parts
    known = [i for i in range(evidence.first, len(corpus)) if parts[i] == "train"]
    known = [i for i in known if json.loads(corpus.facts[i]).get("recipe")]
    train = [i for i in known if corpus.splits[i] in SEEN]
    test = [i for i in known if corpus.splits[i] in UNSEEN]
    if min(len(train), len(test)) < _FEWEST:
        return {}
    slots = len(reader.model.config.roles) * reader.model.config.depth_bins
    norms_NF = control_designs(corpus, reader.slots, slots)["norms"]
    designs = {
        "vector": tuple(reader.embed(own)[0] for own in (train, test)),
        "norms": (norms_NF[train], norms_NF[test]),
    }
    told = {
        name: {
            question: _told(
                rows, _answers(corpus, train, question), _answers(corpus, test, question)
            )
            for question in QUESTIONS
        }
        for name, rows in designs.items()
    }
    kinds = torch.cat([one_hot(_numbers(_answers(corpus, train, q))) for q in QUESTIONS], 1)
    return {
        "adapters": len(test),
        "told": told,
        "retrieval": _freed(evidence, reader, recipe_directions(designs["vector"][0], kinds)),
    }


def recipe_directions(vector_BE: Tensor, kind_BK: Tensor) -> Tensor:
    """Orthonormal columns of the directions in which the means of kinds differ, (E, <= K)."""
    means_KE = (kind_BK.mT @ (vector_BE - vector_BE.mean(0))) / kind_BK.sum(0)[:, None]
    _, sizes_K, rows_KE = torch.linalg.svd(means_KE, full_matrices=False)
    directions_EK: Tensor = rows_KE[sizes_K > 1e-4 * sizes_K[0]].mT
    return directions_EK


def _freed(evidence: Evidence, reader: CorpusReader, directions_EK: Tensor) -> dict[str, Any]:
    """Retrieval as it is, and without the directions."""
    gallery = make_gallery(evidence.corpus, UNSEEN, size=GALLERY, first=evidence.first)
    vector_BE, _ = reader.embed(gallery.entries)
    rows = [evidence.texts.rows[task][0] for task in gallery.tasks]
    query_QE = reader.embed_texts(evidence.texts, rows)
    free_BE, free_QE = (
        nn.functional.normalize(x - x @ directions_EK @ directions_EK.mT, dim=-1)
        for x in (vector_BE, query_QE)
    )
    return {
        "directions": directions_EK.shape[1],
        "as it is": summary(query_QE @ vector_BE.mT, gallery)["all"],
        "without the recipe": summary(free_QE @ free_BE.mT, gallery)["all"],
    }


def _told(
    rows: Sequence[Tensor], train: Sequence[float | str], test: Sequence[float | str]
) -> Mapping[str, Any]:
    """Share of right answers of a ridge classifier."""
    kinds = sorted(set(train), key=str)
    mean_F, std_F = rows[0].mean(0), rows[0].std(0).clamp_min(1e-4)
    known, held = ((own - mean_F) / std_F for own in rows)
    target_BK = torch.tensor([[float(kind == own) for kind in kinds] for own in train])
    center_K = target_BK.mean(0)
    found_BK = held @ ridge_solution(known, target_BK - center_K, _RIDGE) + center_K
    right = [
        float(kinds[n] == own) for n, own in zip(found_BK.argmax(1).tolist(), test, strict=True)
    ]
    commonest = max(test.count(kind) for kind in set(test)) / len(test)
    return {"accuracy": mean_interval(right).to_dict(), "commonest answer": commonest}


def _answers(corpus: Corpus, entries: Sequence[int], question: str) -> list[float | str]:
    return [json.loads(corpus.facts[i])["recipe"][question] for i in entries]


def _numbers(answers: Sequence[float | str]) -> list[float]:
    kinds = sorted(set(answers), key=str)
    return [float(kinds.index(answer)) for answer in answers]
