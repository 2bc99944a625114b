"""Lenses from the names of a criterion's values: no label, since the base knows what words mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import normalize

from lora_gen.adapter.adapter import Adapter
from lora_gen.evaluation.lens_fitting import Example, LensFitConfig, fit_lenses, lens_adapter
from lora_gen.evaluation.lens_reader import LensReader
from lora_gen.evaluation.lenses import Embeds, LensTask, Way, name_anchors, once

PER_VALUE = 32
"""Sentences of each value that a lens is taught with at most."""


def on_names(embedder: Embeds) -> Way:
    """The base's vectors, of which nothing is kept but what tells the values' names apart."""

    def way(task: LensTask, texts: Sequence[str]) -> Tensor:
        names_VE = embedder.embed(list(task.names.values()))
        axes_RE = torch.linalg.svd(names_VE - names_VE.mean(0), full_matrices=False)[2][:-1]
        found_NE = embedder.embed(texts)
        return normalize((found_NE - found_NE.mean(0)) @ axes_RE.mT, dim=1)

    return way


def taught(
    reader: LensReader, pool: Sequence[str], config: LensFitConfig
) -> Callable[[LensTask], Adapter]:
    """A lens trained on sentences without labels: each gets the value whose name it is nearest to.

    Of each value the sentences are taken that are surest, that is, most of which lie nearer to its
    name than to the next; the names are anchors.

    Args:
        reader: The frozen base.
        pool: Sentences of any kind.
        config: How it is trained.
    """

    @cache
    def known() -> Tensor:
        return reader.embedder.embed(pool)

    def find(task: LensTask) -> Adapter:
        names_VE = reader.embed(list(task.names))
        data = guessed(pool, known(), list(task.names), names_VE)
        own = replace(config, batch=min(config.batch, len(data)))
        trainer = reader.embedder
        factors = fit_lenses(trainer, [data], own, seeds=[0], anchors=[name_anchors(task)])
        return lens_adapter(factors, 0, trainer.spec)

    return once(find)


def guessed(
    texts: Sequence[str],
    vectors_NE: Tensor,
    values: Sequence[str],
    names_VE: Tensor,
    *,
    count: int = PER_VALUE,
) -> list[Example]:
    """Of each value the texts that are most surely of it, by the vector of its name.

    A text's cosine with a name counts in standard deviations over all texts, or the value with the
    commonest name would take all.

    Args:
        texts: Sentences.
        vectors_NE: Their vectors.
        values: At least two.
        names_VE: The vectors of their names.
        count: Texts of each value at most.
    """
    axes_VE = normalize(names_VE - names_VE.mean(0), dim=1)
    score_NV = (vectors_NE - vectors_NE.mean(0)) @ axes_VE.mT
    score_NV = (score_NV - score_NV.mean(0)) / score_NV.std(0).clamp_min(1e-6)
    best_N2, order_N2 = score_NV.topk(2, 1)
    margin_N, found = best_N2[:, 0] - best_N2[:, 1], []
    for number, value in enumerate(values):
        rows = (order_N2[:, 0] == number).nonzero()[:, 0]
        sure = rows[margin_N[rows].argsort(descending=True)[:count]]
        found += [(texts[i], value) for i in sure.tolist()]
    return found
