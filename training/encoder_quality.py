"""The quality heads: fitted to a finished trunk, calibrated on recipes that they never saw.

Shapes: B adapters, S width of what the heads read, M members.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lora_gen.models.described_quality import DescribedEnsemble
from lora_gen.models.quality import QualityEnsemble
from lora_gen.retrieval.facts import fact_labels
from lora_gen.retrieval.fit import fit_facts, fit_reach, fit_support
from lora_gen.retrieval.reader import CorpusReader
from training.encoder_data import is_copy
from training.encoder_described import DescribedRows, fit_described
from training.order import derive_seed

if TYPE_CHECKING:
    from training.encoder_task import EncoderTask

_BATCH, _FOLDS = 256, 5
_LR = 2e-3
_BENIGN_SHARE = 0.99
_FEWEST = 20
"""Described adapters below which nothing can be calibrated."""


@dataclass(frozen=True, kw_only=True)
class QualityRows:
    """What the heads read of measured adapters."""

    entries: tuple[int, ...]
    told: Tensor
    """With the description of the task, (B, S)."""
    alone: Tensor
    """Without, (B, S)."""
    truth: Tensor
    """Measured accuracy, (B,)."""
    texts: Tensor
    """Vectors of the descriptions, NaN where there is none, (B, E)."""

    def of(self, chosen: list[int]) -> QualityRows:
        """Some of the rows."""
        return QualityRows(
            entries=tuple(self.entries[n] for n in chosen),
            told=self.told[chosen],
            alone=self.alone[chosen],
            truth=self.truth[chosen],
            texts=self.texts[chosen],
        )


@torch.no_grad()
def quality_rows(task: EncoderTask) -> QualityRows:
    """Rows of training and calibration, each read by a trunk that did not learn its task.

    A read-out is surer of tasks that it was fitted to. Heads that learned from such rows would
    think little of every new task, so the read-out is fitted again without the tasks of each fold.
    """
    wanted = [
        i
        for i in task.corpus.of(task.config.splits)
        if task.data.parts[i] != "test"
        and task.corpus.tasks[i] not in task.data.held_out
        and not bool(task.corpus.accuracy[i].isnan())
        and not is_copy(task.corpus, i)
    ]
    fold = [derive_seed(task.context.seed, "fold", task.corpus.tasks[i]) % _FOLDS for i in wanted]
    encoder = task.encoder
    kept = encoder.basis.clone(), encoder.readout.detach().clone()
    parts, order = [], []
    for number in sorted(set(fold)):
        chosen = [n for n, own in enumerate(fold) if own == number]
        entries = [wanted[n] for n in chosen]
        task.fit_readout({task.corpus.tasks[i] for i in entries})
        reader = CorpusReader(encoder, task.corpus, entries)
        vectors_BE, alone_BS = reader.embed(entries)
        agreement_B = reader.agreement(task.data.texts, entries, vectors_BE)
        parts.append((reader.embed(entries, agreement_B)[1], alone_BS))
        order += entries
    encoder.basis.copy_(kept[0])
    encoder.readout.copy_(kept[1])
    told_BS, alone_BS = (torch.cat(found) for found in zip(*parts, strict=True))
    truth_B = task.corpus.accuracy[order].to(alone_BS.device)
    return QualityRows(
        entries=tuple(order),
        told=told_BS,
        alone=alone_BS,
        truth=truth_B,
        texts=_text_vectors(task, order),
    )


def _text_vectors(task: EncoderTask, entries: Sequence[int]) -> Tensor:
    """Vectors of the first descriptions; NaN where there is none, (B, E)."""
    first = {name: rows[0] for name, rows in task.data.texts.rows.items()}
    tasks = [task.corpus.tasks[i] for i in entries]
    known = [n for n, name in enumerate(tasks) if name in first]
    found_BE = torch.full((len(entries), task.encoder.config.embed_dim), torch.nan)
    if known:
        reader = CorpusReader(task.encoder, task.corpus, [entries[0]])
        rows = [first[tasks[n]] for n in known]
        found_BE[known] = reader.embed_texts(task.data.texts, rows).to(found_BE)
    return found_BE


def fit_quality(task: EncoderTask, *, steps: int) -> DescribedEnsemble | None:
    """Train every member, then find the intervals' reach, the support and the facts.

    Returns:
        What is said of adapters with a description; nothing where too few have one.
    """
    if bool(task.corpus.accuracy.isnan().all()):
        return None
    rows, ensemble = quality_rows(task), task.encoder.quality
    parts = [task.data.parts[i] for i in rows.entries]
    train = rows.of([n for n, part in enumerate(parts) if part == "train"])
    held = rows.of([n for n, part in enumerate(parts) if part == "calibration"])
    inputs_BS = torch.cat([train.told, train.alone])
    ensemble.standardize(inputs_BS)
    _train(ensemble, inputs_BS, train.truth.repeat(2), steps=steps, seed=task.context.seed)
    with torch.no_grad():
        if len(held.truth):
            facts = [json.loads(task.corpus.facts[i]) for i in held.entries]
            recipes = [json.dumps(fact["recipe"]) for fact in facts if fact.get("recipe")]
            for kind, held_BS in enumerate((held.alone, held.told)):
                fit_reach(
                    ensemble,
                    kind,
                    ensemble(held_BS),
                    held.truth,
                    cover=task.config.coverage,
                    groups=recipes if len(recipes) == len(facts) else (),
                )
            fit_support(ensemble, train.alone, held.alone, _BENIGN_SHARE)
        fit_facts(task.encoder, train.alone, fact_labels(task.corpus, train.entries))
    described = [_described(task, part) for part in (train, held)]
    if min(len(part.truth) for part in described) < _FEWEST:
        return None
    return fit_described(
        *described,
        halves=bool(task.encoder.config.shown_share),
        steps=steps,
        cover=task.config.coverage,
        seed=task.context.seed,
    )


def _described(task: EncoderTask, rows: QualityRows) -> DescribedRows:
    """The rows that have a description."""
    known = (~rows.texts[:, 0].isnan()).nonzero().squeeze(1).tolist()
    own = rows.of(known)
    recipes = [json.loads(task.corpus.facts[i]).get("recipe") for i in own.entries]
    return DescribedRows(
        alone=own.alone.cpu(),
        texts=own.texts,
        truth=own.truth.cpu(),
        recipes=tuple(map(json.dumps, recipes)) if all(recipes) else (),
    )


def _train(
    ensemble: QualityEnsemble, inputs_BS: Tensor, truth_B: Tensor, *, steps: int, seed: int
) -> None:
    """Squared error of each member on a resample of its own."""
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(seed)
        members = len(ensemble.members)
        parameters = [p.requires_grad_() for p in ensemble.members.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=_LR, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
        resample_MB = torch.randint(len(truth_B), (members, len(truth_B)), device=truth_B.device)
        ensemble.train(True)
        for _ in range(steps):
            drawn = torch.randint(len(truth_B), (min(_BATCH, len(truth_B)),))
            losses = [
                nn.functional.mse_loss(
                    ensemble.member(m, inputs_BS[own[drawn]]), truth_B[own[drawn]]
                )
                for m, own in enumerate(resample_MB)
            ]
            optimizer.zero_grad(set_to_none=True)
            torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        ensemble.train(False)
