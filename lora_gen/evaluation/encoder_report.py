"""How well weights alone are found by descriptions and judged, beside what could fake it.

    python -m lora_gen.evaluation.encoder_report --zoo build/tiny_lm/zoo build/tiny_lm/recipe_zoo
        --texts build/tiny_lm/encoder_texts.jsonl --cache build/cache --out build/encoder_report
        [--encoder FOLDER]

Writes `report.json`, `report.md` and `report.svg`. The protocol stands in `encoder_retrieval`; the
test part of recipes and the unseen splits are those that training leaves alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lora_gen.errors import ConfigError
from lora_gen.evaluation.encoder_evidence import (
    EXAMPLES,
    GALLERY,
    MIN_ACCURACY,
    SEEN,
    UNSEEN,
    Evidence,
    load_evidence,
)
from lora_gen.evaluation.encoder_leak import leak_report
from lora_gen.evaluation.encoder_quality_report import quality_report
from lora_gen.evaluation.encoder_report_text import figure, markdown
from lora_gen.evaluation.encoder_retrieval import (
    Gallery,
    by_slot,
    control_designs,
    make_gallery,
    ridge_scores,
    summary,
)
from lora_gen.files import atomic_write_bytes, atomic_write_json
from lora_gen.retrieval.corpus import Corpus
from lora_gen.retrieval.encoder import WeightEncoder, default_encoder
from lora_gen.retrieval.reader import CorpusReader
from lora_gen.retrieval.texts import TextBank


def retrieval_report(evidence: Evidence, reader: CorpusReader) -> dict[str, Any]:
    """Every method and control on the gallery, and the encoder on other wordings and galleries."""
    corpus = evidence.corpus
    gallery = make_gallery(corpus, UNSEEN, size=GALLERY, first=evidence.first)
    narrow = make_gallery(corpus, UNSEEN, size=0, first=evidence.first)
    model, texts = reader.model, evidence.texts
    vectors_BE, _ = reader.embed(gallery.entries)
    query_QE = reader.embed_texts(texts, [texts.rows[task][0] for task in gallery.tasks])
    train = [i for i in corpus.of(SEEN, min_accuracy=MIN_ACCURACY) if evidence.parts[i] == "train"]
    target_BE = mean_texts(reader, texts, [corpus.tasks[i] for i in train])
    slots = len(model.config.roles) * model.config.depth_bins
    content = by_slot(corpus, reader.slots, slots, lambda rows: reader.content[rows])
    designs = control_designs(corpus, reader.slots, slots)
    scores = {"encoder": query_QE @ vectors_BE.mT}
    for name, design in designs.items():
        scores[f"control: {name}"] = ridge_scores(design, train, target_BE, gallery, query_QE)
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    scores["control: labels permuted"] = ridge_scores(
        content, train, target_BE[order], gallery, query_QE
    )
    scores["flattened PCA and ridge"] = ridge_scores(
        _flattened_pca(content, train), train, target_BE, gallery, query_QE
    )
    scores["card text (reads the names)"] = _card_scores(texts, corpus, gallery)
    methods = {name: summary(found, gallery) for name, found in scores.items()}
    held = reader.embed_texts(texts, [texts.rows[task][2] for task in gallery.tasks])
    methods["encoder, held-out wordings"] = summary(held @ vectors_BE.mT, gallery)
    both = _fused(scores["encoder"], scores["card text (reads the names)"])
    methods["encoder and card text"] = summary(both, gallery)
    if all(task in evidence.shown for task in gallery.tasks):
        shown_QS = torch.stack([evidence.shown[task] for task in gallery.tasks])
        methods[f"encoder, told {EXAMPLES} examples"] = summary(
            model.embed_shown(shown_QS) @ vectors_BE.mT, gallery
        )
        methods[f"encoder, told text and {EXAMPLES} examples"] = summary(
            model.embed_shown(shown_QS, query_QE) @ vectors_BE.mT, gallery
        )
    own, _ = reader.embed(narrow.entries)
    query_QE = reader.embed_texts(texts, [texts.rows[task][0] for task in narrow.tasks])
    fixed = {"encoder": summary(query_QE @ own.mT, narrow)}
    return {
        "gallery": len(gallery.entries),
        "trained on": {"adapters": len(train), "tasks": len({corpus.tasks[i] for i in train})},
        "methods": methods,
        "one recipe": {"gallery": len(narrow.entries), "methods": fixed},
    }


def mean_texts(reader: CorpusReader, texts: TextBank, tasks: Sequence[str]) -> Tensor:
    """Mean vector of the descriptions of each task, (B, E)."""
    known = sorted(set(tasks))
    both = [reader.embed_texts(texts, [texts.rows[task][n] for task in known]) for n in (0, 1)]
    mean = (both[0] + both[1]) / 2
    place = {task: n for n, task in enumerate(known)}
    return mean[[place[task] for task in tasks]]


def _flattened_pca(design_NF: Tensor, train: Sequence[int], width: int = 128) -> Tensor:
    """All modules side by side, on the main directions of the training."""
    offset_NF = design_NF - design_NF[train].mean(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return offset_NF @ torch.svd_lowrank(offset_NF[train], q=width, niter=1)[2]


def _card_scores(texts: TextBank, corpus: Corpus, gallery: Gallery) -> Tensor:
    """Queries against the cards of all adapters, which hold another wording of what they say."""
    names = sorted({corpus.tasks[i] for i in gallery.entries})
    place = {task: n for n, task in enumerate(names)}
    cards = nn.functional.normalize(texts.pooled([texts.rows[t][1] for t in names], 1)[:, :384])
    query = texts.pooled([texts.rows[t][0] for t in gallery.tasks], 1)[:, :384]
    scores = nn.functional.normalize(query) @ cards.mT
    return scores[:, [place[corpus.tasks[i]] for i in gallery.entries]]


def _fused(*scores: Tensor) -> Tensor:
    """Reciprocal rank fusion of several orders."""
    ranks = [found.argsort(1, descending=True).argsort(1) for found in scores]
    return torch.stack([1 / (60.0 + rank) for rank in ranks]).sum(0)


def main() -> None:
    """Measure everything and write the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--zoo", type=Path, nargs="+", required=True)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=Path("build/cache"))
    parser.add_argument("--encoder", type=Path, help="default: the embedded one")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    encoder = WeightEncoder.from_pretrained(args.encoder) if args.encoder else default_encoder()
    if encoder is None:
        raise ConfigError("There is no embedded adapter encoder. Pass `--encoder FOLDER`.")
    write_report(load_evidence(args.zoo, args.texts, args.cache, encoder), args.out)


def write_report(evidence: Evidence, out: Path) -> dict[str, Any]:
    """Measure, and write numbers, table and figure."""
    reader = CorpusReader(evidence.encoder.model, evidence.corpus)
    found = {
        "retrieval": retrieval_report(evidence, reader),
        "quality": quality_report(evidence, reader),
        "leak": leak_report(evidence, reader),
    }
    out.mkdir(parents=True, exist_ok=True)
    atomic_write_json(out / "report.json", found)
    atomic_write_bytes(out / "report.md", markdown(found).encode())
    figure(found, out / "report.svg")
    return found


if __name__ == "__main__":
    main()
