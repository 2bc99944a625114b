"""Lenses beside every simpler way to make similarity follow a criterion.

Each way turns a task's sentences into unit vectors; the measures of `lens_measures` judge them. A
way sees the task's description, or some labeled sentences of training's vocabulary, never the
sentences that measure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import normalize

from lora_gen.adapter.adapter import Adapter
from lora_gen.conditioning.text import TextEncoder
from lora_gen.evaluation.baselines.mean import mean_adapter
from lora_gen.evaluation.baselines.nearest import NearestText
from lora_gen.evaluation.baselines.ridge import KernelRidge
from lora_gen.evaluation.baselines.soup import text_soups
from lora_gen.evaluation.embedding import Embedder
from lora_gen.evaluation.lens_fitting import Example, LensFitConfig, fit_lenses, lens_adapter
from lora_gen.evaluation.lens_measures import (
    knn_accuracy,
    mean_average_precision,
    zero_shot_accuracy,
)
from lora_gen.zoo.store import Zoo

BASE, ORACLE = "base", "oracle lens"
_SHRINKAGE = 0.5
"""Share of the identity in the covariance within values, which few sentences tell badly."""


@dataclass(frozen=True, kw_only=True)
class LensTask:
    """A criterion, and sentences on which lenses for it are measured."""

    name: str
    description: str
    texts: tuple[str, ...]
    values: tuple[str, ...]
    """The value of each text."""

    sources: tuple[str | None, ...]
    """What realizes it; see `lens_measures.Sources`."""

    names: Mapping[str, str]
    """Each value in words."""

    examples: tuple[Example, ...] = ()
    """Labeled sentences to learn from, values in turn."""

    wording: str = ""
    """The description in words that training never meets."""

    other_words: str = ""
    """The description of another criterion."""

    named: str = ""
    """The description with the values in it."""

    others: Mapping[str, tuple[str | None, ...]] = field(default_factory=dict)
    """Values of other criteria on the same texts, None where one is not realized."""


class Embeds(Protocol):
    """Turns texts into unit vectors, under a lens or none."""

    def embed(self, texts: Sequence[str], adapter: Adapter | None = None) -> Tensor:
        """(N, E) float32."""


Way = Callable[[LensTask, Sequence[str]], Tensor]
"""(task, its texts and other texts of any kind) -> unit vectors of the latter."""


def measure(task: LensTask, way: Way) -> dict[str, float]:
    """The scores of a way: `map`, `knn`, `zero_shot`, and `others`, the mean mAP of the rest."""
    names = list(task.names)
    found_NE = way(task, [*task.texts, *task.names.values()])
    vectors_NE, names_VE = found_NE[: len(task.texts)], found_NE[len(task.texts) :]
    scores = {
        "map": mean_average_precision(vectors_NE, task.values, sources=task.sources),
        "knn": knn_accuracy(vectors_NE, task.values, sources=task.sources),
        "zero_shot": zero_shot_accuracy(vectors_NE, task.values, names, names_VE),
    }
    others = [_other(vectors_NE, values) for values in task.others.values()]
    return scores | ({"others": sum(others) / len(others)} if others else {})


def _other(vectors_NE: Tensor, values: Sequence[str | None]) -> float:
    rows = [i for i, value in enumerate(values) if value is not None]
    return mean_average_precision(vectors_NE[rows], [str(values[i]) for i in rows])


def with_adapter(embedder: Embeds, find: Callable[[LensTask], Adapter | None]) -> Way:
    """Vectors under the adapter that `find` gives a task; None is the base."""
    return lambda task, texts: embedder.embed(texts, find(task))


def with_instruction(embedder: Embeds) -> Way:
    """The base's vectors, the description in front of each text."""

    def way(task: LensTask, texts: Sequence[str]) -> Tensor:
        return embedder.embed([f"{task.description}: {text}" for text in texts])

    return way


def whitened(embedder: Embeds, pool: Sequence[str]) -> Way:
    """The base's vectors without mean and correlations of a pool (Su et al., 2021)."""

    @cache
    def fitted() -> tuple[Tensor, Tensor]:
        pool_NE = embedder.embed(pool).double()
        return pool_NE.mean(0), _inverse_root(pool_NE.T.cov(correction=0))

    def way(task: LensTask, texts: Sequence[str]) -> Tensor:
        mean_E, map_EE = fitted()
        return normalize(((embedder.embed(texts).double() - mean_E) @ map_EE).float(), dim=1)

    return way


def linear_map(embedder: Embeds, count: int) -> Way:
    """The base's vectors, stretched where examples of one value differ least (as in LDA)."""

    def way(task: LensTask, texts: Sequence[str]) -> Tensor:
        examples = task.examples[:count]
        known_NE = embedder.embed([text for text, _ in examples]).double()
        values = [value for _, value in examples]
        means = {v: known_NE[[w == v for w in values]].mean(0) for v in set(values)}
        means_VE = torch.stack(list(means.values()))
        inside_NE = known_NE - torch.stack([means[value] for value in values])
        width = known_NE.shape[1]
        within_EE = inside_NE.T @ inside_NE / len(values)
        level = known_NE.var(0).mean()
        shrunk_EE = (1 - _SHRINKAGE) * within_EE + _SHRINKAGE * level * torch.eye(width).double()
        between_VE = means_VE - means_VE.mean(0)
        root_EE = _inverse_root(shrunk_EE)
        axes_EV = torch.linalg.svd(between_VE @ root_EE, full_matrices=False)[2][:-1].T
        mean_E = means_VE.mean(0)
        found = (embedder.embed(texts).double() - mean_E) @ root_EE @ axes_EV
        return normalize(found.float(), dim=1)

    return way


def once(find: Callable[[LensTask], Adapter]) -> Callable[[LensTask], Adapter]:
    """`find`, its lens kept for tasks that differ only in what they are measured on."""
    known: dict[object, Adapter] = {}

    def found(task: LensTask) -> Adapter:
        key = (task.name, task.description, task.examples)
        if key not in known:
            known[key] = find(task)
        return known[key]

    return found


def few_shot(
    trainer: Embedder, count: int, config: LensFitConfig, *, with_names: bool = False
) -> Callable[[LensTask], Adapter]:
    """A lens trained from random factors on the first examples of a task.

    Args:
        trainer: The frozen base.
        count: Examples.
        config: How it is trained.
        with_names: Whether the names of the values are anchors.
    """

    def find(task: LensTask) -> Adapter:
        own = replace(config, batch=min(config.batch, count))
        anchors = [name_anchors(task)] if with_names else ()
        factors = fit_lenses(trainer, [task.examples[:count]], own, seeds=[0], anchors=anchors)
        return lens_adapter(factors, 0, trainer.spec)

    return once(find)


def name_anchors(task: LensTask) -> list[Example]:
    """The values' names, bare and in words, as texts that hold nothing but the value."""
    return [(text, value) for value, said in task.names.items() for text in (value, said)]


def nearest_lenses(
    zoo: Zoo, encoder: TextEncoder, count: int
) -> Callable[[LensTask], list[Adapter]]:
    """The seen lenses whose descriptions are nearest to a task's, the nearest first."""

    @cache
    def index() -> NearestText:
        return NearestText(zoo, seen_ids(zoo), encoder)

    def find(task: LensTask) -> list[Adapter]:
        (near,) = index().neighbors([task.description], count)
        return [zoo.load(id) for id, _ in near]

    return find


def seen_ids(zoo: Zoo) -> list[str]:
    """Ids of the lenses that a way may know."""
    return [entry.id for entry in zoo.entries() if entry.split == "seen"]


def zoo_ways(embedder: Embeds, zoo: Zoo, encoder: TextEncoder) -> dict[str, Way]:
    """What a zoo gives by words, its mean and the oracle; all but that know split `seen` only."""
    seen, near = seen_ids(zoo), nearest_lenses(zoo, encoder, 1)
    entries = {entry.task: entry.id for entry in zoo.entries()}

    @cache
    def nearest() -> NearestText:
        return NearestText(zoo, seen, encoder)

    @cache
    def soup(text: str) -> Adapter:
        return text_soups(zoo, nearest(), [text], count=4, rank=zoo.get(seen[0]).rank)[0]

    @cache
    def ridge() -> KernelRidge:
        return KernelRidge(zoo, nearest(), rank=zoo.get(seen[0]).rank)

    @cache
    def mean() -> Adapter:
        return mean_adapter(zoo, seen, rank=zoo.get(seen[0]).rank)

    return {
        "nearest lens": with_adapter(embedder, lambda task: near(task)[0]),
        "soup of 4 nearest": with_adapter(embedder, lambda task: soup(task.description)),
        "kernel ridge from words": with_adapter(
            embedder, lambda task: ridge().adapters([task.description])[0]
        ),
        "mean lens": with_adapter(embedder, lambda task: mean()),
        ORACLE: with_adapter(embedder, lambda task: zoo.load(entries[task.name])),
    }


def _inverse_root(matrix_EE: Tensor) -> Tensor:
    values_E, axes_EE = torch.linalg.eigh(matrix_EE)
    floor = values_E.max() * 1e-4  # directions that the sample does not fill
    root_EE: Tensor = axes_EE / values_E.clamp_min(floor).sqrt() @ axes_EE.T
    return root_EE
