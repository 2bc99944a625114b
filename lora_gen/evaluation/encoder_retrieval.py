"""Descriptions that look for adapters of unseen tasks by weights alone, and what could fake it.

Protocol: no method was fitted to a task of the gallery. The gallery holds adapters of unseen tasks,
without names, cards or texts: all of the first zoo and a fixed sample of the others, with their
under-trained, broken, noisy and mislabeled ones. An adapter answers a query if the catalog has it
for that task and it does it (measured accuracy of at least one half); a task is asked for if some
adapter answers. Ties count against a method. Intervals are bootstraps over tasks.

Shapes: Q queries, B adapters of the gallery, F features, E embedding width.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lora_gen.evaluation.statistics import mean_interval
from lora_gen.retrieval.corpus import Corpus
from lora_gen.retrieval.features import NUM_SHAPE_FEATURES
from lora_gen.retrieval.fit import modules_of, ridge_solution

RELEVANT = 0.5
_RIDGE = 0.5


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Adapters to be found, and the tasks that are asked for."""

    entries: tuple[int, ...]
    tasks: tuple[str, ...]
    splits: tuple[str, ...]
    """Split of each task."""
    relevant: Tensor
    """Whether an adapter answers a task, (Q, B)."""
    own: Tensor
    """Accuracy of an adapter on the task if it is of that task, else 0, (Q, B)."""


def make_gallery(corpus: Corpus, unseen: Sequence[str], *, size: int, first: int) -> Gallery:
    """The gallery of a corpus.

    Args:
        corpus: Adapters of all zoos.
        unseen: Splits that nothing was fitted to.
        size: Number of adapters.
        first: Entries of the first zoo, all of whose unseen ones are in the gallery.
    """
    known = [i for i, split in enumerate(corpus.splits) if split in unseen]
    chosen = [i for i in known if i < first]
    others = [i for i in known if i >= first]
    random.Random(0).shuffle(others)
    entries = [*chosen, *others[: max(0, size - len(chosen))]]
    split_of = {corpus.tasks[i]: corpus.splits[i] for i in entries}
    tasks = sorted(split_of)
    accuracy_B = corpus.accuracy[entries].nan_to_num(1.0)
    same_QB = torch.tensor([[corpus.tasks[i] == task for i in entries] for task in tasks])
    relevant_QB = same_QB & (accuracy_B >= RELEVANT)
    asked = relevant_QB.any(1)
    kept = [task for task, has in zip(tasks, asked.tolist(), strict=True) if has]
    return Gallery(
        entries=tuple(entries),
        tasks=tuple(kept),
        splits=tuple(split_of[task] for task in kept),
        relevant=relevant_QB[asked],
        own=(same_QB * accuracy_B)[asked],
    )


def ranks_of(scores_QB: Tensor, relevant_QB: Tensor) -> Tensor:
    """How many wrong adapters each query prefers to its best right one, (Q,)."""
    best_Q1 = scores_QB.masked_fill(~relevant_QB, -torch.inf).amax(1, keepdim=True)
    return ((scores_QB >= best_Q1) & ~relevant_QB).sum(1)


def summary(scores_QB: Tensor, gallery: Gallery) -> dict[str, Any]:
    """Top-1, top-10, reciprocal rank and regret, over all queries and by split.

    Regret is the accuracy of the best adapter of the task minus that of the one found first, which
    counts as 0 where it is of another task.
    """
    ranks_Q = ranks_of(scores_QB, gallery.relevant)
    found_Q = gallery.own.gather(1, scores_QB.argmax(1, keepdim=True)).squeeze(1)
    regret_Q = gallery.own.amax(1) - found_Q
    result = {}
    for split in ("all", *sorted(set(gallery.splits))):
        chosen = torch.tensor([split in ("all", own) for own in gallery.splits])
        ranks = ranks_Q[chosen]
        values = {
            "top1": (ranks < 1).double(),
            "top10": (ranks < 10).double(),
            "mrr": 1 / (ranks.double() + 1),
            "regret": regret_Q[chosen].double(),
        }
        result[split] = {
            "queries": len(ranks),
            **{name: mean_interval(value.tolist()).to_dict() for name, value in values.items()},
        }
    return result


def ridge_scores(
    design_NF: Tensor, train: Sequence[int], target_BE: Tensor, gallery: Gallery, query_QE: Tensor
) -> Tensor:
    """Inner products of queries with what ridge regression makes of a design, (Q, B).

    Args:
        design_NF: One row an entry of the corpus.
        train: Entries that are fitted to.
        target_BE: Text vector of each entry of `train`.
        gallery: What is looked through.
        query_QE: Text vectors of its tasks.
    """
    center_F = design_NF[train].mean(0)
    weights_FE = ridge_solution(design_NF[train] - center_F, target_BE, _RIDGE)
    found_BE = (design_NF[list(gallery.entries)] - center_F) @ weights_FE
    # Twelve digits are enough to tell two adapters apart; equal ones must tie.
    found_BE = nn.functional.normalize(found_BE.double(), dim=-1)
    scores: Tensor = (nn.functional.normalize(query_QE.double(), dim=-1) @ found_BE.mT).round(
        decimals=9
    )
    return scores


def control_designs(corpus: Corpus, slots_T: Tensor, num_slots: int) -> dict[str, Tensor]:
    """What could fake retrieval: one row an entry, by name of the control."""
    scale = by_slot(corpus, slots_T, num_slots, lambda rows: corpus.scale[rows][:, None] + 8)
    shape = by_slot(
        corpus, slots_T, num_slots, lambda rows: corpus.side[rows, : NUM_SHAPE_FEATURES - 2]
    )
    facts = [json.loads(fact) for fact in corpus.facts]
    rank = torch.tensor([[float(fact["rank"])] for fact in facts]).log2()
    return {
        "norms": scale,
        "norms and spectra": torch.cat([scale, shape], 1),
        "rank": one_hot(rank.squeeze(1).tolist()),
        "recipe": torch.tensor([recipe_row(fact) for fact in facts]),
        "metadata": torch.cat([one_hot(rank.squeeze(1).tolist()), (scale > 0).float()], 1),
    }


def by_slot(
    corpus: Corpus, slots_T: Tensor, num_slots: int, values: Callable[[Tensor], Tensor]
) -> Tensor:
    """Values of modules at their slots, zeros where an entry has no such module, (N, slots * F)."""
    owner_T = torch.arange(len(corpus)).repeat_interleave(corpus.offsets.diff())
    found_TF = values(torch.arange(len(slots_T))).float()
    flat = torch.zeros(len(corpus) * num_slots, found_TF.shape[1])
    flat[owner_T * num_slots + slots_T] = found_TF
    return flat.view(len(corpus), -1)


def recipe_row(fact: Mapping[str, Any]) -> list[float]:
    """A recipe as numbers: what a list of hyperparameters could tell."""
    recipe = fact.get("recipe") or {"lr": 1e-2, "targets": "all-linear", "examples": 96, "wrong": 0}
    steps = float(fact["steps"] or 45)
    logs = torch.tensor([fact["rank"], steps, recipe["lr"], recipe["examples"]]).float().log()
    dose = (torch.tensor(steps * recipe["lr"]).log() + 2) / 2
    targets = [float(recipe["targets"] == name) for name in ("all-linear", "attention", "mlp")]
    return [*logs.tolist(), float(dose), float(dose**2), float(recipe["wrong"]), *targets]


def one_hot(values: Sequence[float]) -> Tensor:
    """Each distinct value a column, (N, values)."""
    kinds = sorted(set(values))
    return torch.tensor([[float(value == kind) for kind in kinds] for value in values])


def rows_of(corpus: Corpus, entries: Sequence[int]) -> Tensor:
    """Rows of modules of some entries."""
    return torch.cat([modules_of(corpus, entry) for entry in entries])
