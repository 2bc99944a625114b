"""How well descriptions find adapters by their weights alone, beside what could fake it.

    python -m lora_gen.evaluation.encoder_report --zoo build/tiny_lm/zoo --cache build/cache
        --encoder build/tiny_lm/encoder/final --wordings 16 --out report.json

Every query is one description of an adapter that no method was fitted on; the gallery holds all
such adapters without names, cards or texts. Baselines are ridge regressions from a part of the
features to the same projected texts.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lora_gen.evaluation.statistics import mean_interval, proportion_interval
from lora_gen.files import atomic_write_json
from lora_gen.retrieval.corpus import Corpus, CorpusConfig, corpus_of
from lora_gen.retrieval.encoder import WeightEncoder, slots_of
from lora_gen.retrieval.features import NUM_SHAPE_FEATURES
from lora_gen.retrieval.fit import TextProjection, modules_of, ridge_solution, stacked_modules
from lora_gen.zoo.store import Zoo

_RIDGE = 2.0
_TEXT_WIDTH = 256
_AT_ONCE = 128


def ranks_of(scores_QB: Tensor, answers_Q: Tensor) -> Tensor:
    """How many others each query prefers to its answer, (Q,); ties count as preferred."""
    own_Q1 = scores_QB.gather(1, answers_Q[:, None])
    return (scores_QB >= own_Q1).sum(1) - 1


def summary(ranks_Q: Tensor) -> dict[str, Any]:
    """Top-1, top-10 and mean reciprocal rank with 95% intervals over queries."""
    count = len(ranks_Q)
    reciprocal = (1 / (ranks_Q.double() + 1)).tolist()
    return {
        "queries": count,
        "top1": proportion_interval(int((ranks_Q < 1).sum()), count).to_dict(),
        "top10": proportion_interval(int((ranks_Q < 10).sum()), count).to_dict(),
        "mrr": mean_interval(reciprocal).to_dict(),
    }


def encoder_scores(encoder: WeightEncoder, corpus: Corpus, gallery: Sequence[int]) -> Tensor:
    """Inner products of first descriptions with adapters, (Q, B)."""
    model = encoder.model
    rows = torch.cat([modules_of(corpus, i) for i in gallery])
    slots_T = slots_of(model, corpus.roles, corpus.side)
    content_TD = torch.zeros(len(slots_T), model.config.token_dim)
    content_TD[rows] = model.project(corpus.sketches[rows].float(), slots_T[rows])
    parts = []
    with torch.no_grad():
        for start in range(0, len(gallery), _AT_ONCE):
            entries = gallery[start : start + _AT_ONCE]
            modules = stacked_modules(corpus, entries, content_TD, slots_T)
            parts.append(model.embed(modules, model.summary(modules)))
        texts_QE = model.embed_texts(corpus.segments[first_texts(corpus, gallery)].float())
    scores_QG: Tensor = texts_QE @ torch.cat(parts).mT
    return scores_QG


def ridge_scores(
    design_BF: Tensor, corpus: Corpus, train: Sequence[int], gallery: Sequence[int]
) -> Tensor:
    """Inner products of first descriptions with what ridge regression makes of a design, (Q, B)."""
    texts = TextProjection.fit(corpus, train, _TEXT_WIDTH)
    target_BE = texts.means(corpus, train)
    center_F = design_BF[train].mean(0)
    weights_FE = ridge_solution(design_BF[train] - center_F, target_BE, _RIDGE)
    found_BE = (design_BF[gallery] - center_F) @ weights_FE
    query_QE = texts(corpus.segments[first_texts(corpus, gallery)])
    return nn.functional.normalize(query_QE, dim=-1) @ nn.functional.normalize(found_BE, dim=-1).mT


def card_scores(corpus: Corpus, gallery: Sequence[int]) -> Tensor:
    """First descriptions against cards that hold another description: what names could do."""
    first = corpus.segments[first_texts(corpus, gallery), 0].float()
    other = corpus.segments[[row + 1 for row in first_texts(corpus, gallery)], 0].float()
    return nn.functional.normalize(first, dim=-1) @ nn.functional.normalize(other, dim=-1).mT


def first_texts(corpus: Corpus, entries: Sequence[int]) -> list[int]:
    """Row of the first description of each entry."""
    rows: dict[int, int] = {}
    for row, owner in enumerate(corpus.owners.tolist()):
        rows.setdefault(owner, row)
    return [rows[entry] for entry in entries]


def designs(corpus: Corpus) -> dict[str, Tensor]:
    """What each baseline looks at, (entries, F); all adapters have the same modules."""
    count = len(corpus)
    linear = round((corpus.sketches.shape[1] / 4) ** 0.5)
    while 2 * linear**2 + linear * (linear + 1) < corpus.sketches.shape[1]:
        linear += 1
    side_BNS = corpus.side.view(count, -1, corpus.side.shape[1])
    scale_BN = corpus.scale.view(count, -1)
    spread_BF = side_BNS[:, :, :NUM_SHAPE_FEATURES].flatten(1)
    sketch_BF = corpus.sketches[:, : linear**2].reshape(count, -1).float()
    return {
        "norms": scale_BN / scale_BN.std(),
        "norms and spectra": torch.cat([scale_BN / scale_BN.std(), spread_BF], 1),
        "linear sketches, closed form": sketch_BF,
    }


def report(
    corpus: Corpus, encoder: WeightEncoder | None, *, train_splits: Sequence[str] = ("seen",)
) -> dict[str, Any]:
    """Every method on every held-out split, and the controls."""
    train = corpus.of(train_splits)
    held = sorted({split for split in corpus.splits if split not in train_splits})
    gallery = corpus.of(held)
    scores = {
        name: ridge_scores(design, corpus, train, gallery)
        for name, design in designs(corpus).items()
    }
    shuffled = designs(corpus)["linear sketches, closed form"]
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    permuted = shuffled.clone()
    permuted[train] = shuffled[torch.tensor(train)[order]]
    scores["labels permuted"] = ridge_scores(permuted, corpus, train, gallery)
    scores["card text (uses metadata)"] = card_scores(corpus, gallery)
    if encoder:
        scores["encoder"] = encoder_scores(encoder, corpus, gallery)
    splits = [corpus.splits[i] for i in gallery]
    answers = torch.arange(len(gallery))
    methods: dict[str, Any] = {}
    for name, found in scores.items():
        ranks = ranks_of(found, answers)
        methods[name] = {"all": summary(ranks)}
        for split in held:
            chosen = torch.tensor([own == split for own in splits])
            methods[name][split] = summary(ranks[chosen])
    return {"gallery": len(gallery), "trained on": len(train), "methods": methods}


def main() -> None:
    """Measure, print a table, and write the numbers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--zoo", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=Path("build/cache"))
    parser.add_argument("--encoder", type=Path)
    parser.add_argument("--wordings", type=int, default=16)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with Zoo.open(args.zoo, read_only=True) as zoo:
        corpus = corpus_of(zoo, CorpusConfig(wordings=args.wordings), args.cache)
    encoder = WeightEncoder.from_pretrained(args.encoder) if args.encoder else None
    found = report(corpus, encoder)
    for name, splits in found["methods"].items():
        for split, values in splits.items():
            line = "  ".join(
                f"{key} {values[key]['value']:.3f} [{values[key]['low']:.3f}, "
                f"{values[key]['high']:.3f}]"
                for key in ("top1", "top10", "mrr")
            )
            print(f"{name:32} {split:20} n={values['queries']:4}  {line}")
    if args.out:
        atomic_write_json(args.out, json.loads(json.dumps(found)))


if __name__ == "__main__":
    main()
