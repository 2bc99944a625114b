"""How well weights alone are found by descriptions and judged, beside what could fake it.

    python -m lora_gen.evaluation.encoder_report --zoo build/tiny_lm/zoo build/tiny_lm/recipe_zoo
        --texts build/tiny_lm/encoder_texts.jsonl --cache build/cache --out build/encoder_report
        [--encoder FOLDER]

Writes `report.json`, `report.md` and `report.svg`. The protocol stands in `encoder_retrieval`; the
test part of recipes and the unseen splits are those that training leaves alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lora_gen.conditioning.chat import load_causal_lm
from lora_gen.errors import ConfigError
from lora_gen.evaluation.encoder_quality import (
    calibration,
    ensemble_rows,
    fact_table,
    goodness,
    linear_prediction,
    quality_designs,
)
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
from lora_gen.retrieval.corpus import Corpus, CorpusConfig, corpus_of, parts_of
from lora_gen.retrieval.encoder import WeightEncoder, default_encoder
from lora_gen.retrieval.reader import CorpusReader
from lora_gen.retrieval.shown import Examples, shown_states
from lora_gen.retrieval.texts import TextBank, text_bank
from lora_gen.zoo.splits import require_split
from lora_gen.zoo.store import Zoo

SEEN = ("seen",)
UNSEEN = ("unseen_composition", "unseen_argument", "unseen_primitive")
GALLERY = 1_000
_MIN_ACCURACY = 0.3
_EXAMPLES = 6
_DEFAULT_TEXT_ENCODER = CorpusConfig().text_encoder


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that is measured on."""

    corpus: Corpus
    first: int
    """Entries of the first zoo."""
    texts: TextBank
    """Of every task: descriptions, and for unseen ones the card's and the held-out wording."""
    encoder: WeightEncoder
    parts: tuple[str, ...]
    shown: Mapping[str, Tensor] = field(default_factory=dict)
    """Unseen task -> what the base makes of a few of its test examples, (S,)."""


def load_evidence(
    zoos: Sequence[Path], texts: Path, cache: Path, encoder: WeightEncoder
) -> Evidence:
    """Read the zoos through the encoder's frames, and the wordings of their tasks.

    Raises:
        ConfigError: The texts cannot be read.
        ZooError: A zoo cannot be read.
    """
    views = tuple(encoder.model.config.views)
    sketch = encoder.frames.sketch if encoder.frames else CorpusConfig().sketch
    config = CorpusConfig(views=views, sketch=sketch)
    corpora: list[Corpus] = []
    examples: dict[str, Examples] = {}
    for folder in zoos:
        with Zoo.open(folder, read_only=True) as zoo:
            corpora.append(corpus_of(zoo, config, cache, frames=encoder.frames))
            examples = examples or _test_examples(zoo)
    corpus = Corpus.join(corpora)
    bank = text_bank(_wordings(texts, set(corpus.tasks)), cache, encoder=_DEFAULT_TEXT_ENCODER)
    return Evidence(
        corpus=corpus,
        first=len(corpora[0]),
        texts=bank,
        encoder=encoder,
        parts=parts_of(corpus),
        shown=_shown(examples, encoder),
    )


def _test_examples(zoo: Zoo) -> dict[str, Examples]:
    """A few examples of each unseen task of a zoo that no adapter was trained on."""
    found: dict[str, Examples] = {}
    for split in UNSEEN:
        for entry in zoo.entries(split=require_split(split)):
            trained = {text for text, _ in entry.examples}
            pairs = [(a, b) for a, b in entry.extra.get("tests", ()) if a not in trained]
            if len(pairs) >= _EXAMPLES:
                found[entry.task] = pairs[:_EXAMPLES]
    return found


def _shown(examples: Mapping[str, Examples], encoder: WeightEncoder) -> dict[str, Tensor]:
    """What the encoder's base makes of examples; nothing where the encoder does not read them."""
    if not encoder.model.config.shown_share or not examples or len(encoder.trained_bases) != 1:
        return {}
    model, chat = load_causal_lm(encoder.trained_bases[0])
    return dict(zip(examples, shown_states(model, chat, examples), strict=True))


def _wordings(path: Path, tasks: set[str]) -> dict[str, tuple[str, ...]]:
    """Two descriptions of each task and one in held-out words."""
    found = {}
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            known = json.loads(line)
            if known["task"] in tasks:
                found[known["task"]] = (*known["descriptions"][:2], known["held_out"][0])
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise ConfigError(
            f"`{path}` is not a file of tasks with descriptions ({error}). Make it with "
            "`python -m recipes.tiny_lm.encoder_texts`."
        ) from error
    return found


def retrieval_report(evidence: Evidence, reader: CorpusReader) -> dict[str, Any]:
    """Every method and control on the gallery, and the encoder on other wordings and galleries."""
    corpus = evidence.corpus
    gallery = make_gallery(corpus, UNSEEN, size=GALLERY, first=evidence.first)
    narrow = make_gallery(corpus, UNSEEN, size=0, first=evidence.first)
    model, texts = reader.model, evidence.texts
    vectors_BE, _ = reader.embed(gallery.entries)
    query_QE = reader.embed_texts(texts, [texts.rows[task][0] for task in gallery.tasks])
    train = [i for i in corpus.of(SEEN, min_accuracy=_MIN_ACCURACY) if evidence.parts[i] == "train"]
    target_BE = _mean_texts(reader, texts, [corpus.tasks[i] for i in train])
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
        methods[f"encoder, told {_EXAMPLES} examples"] = summary(
            model.embed_shown(shown_QS) @ vectors_BE.mT, gallery
        )
        methods[f"encoder, told text and {_EXAMPLES} examples"] = summary(
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
    result = {}
    for name, splits, part in (
        ("unseen tasks and recipes", UNSEEN, "test"),
        ("seen tasks, unseen recipes", SEEN, "test"),
        ("unseen tasks, seen recipes", UNSEEN, "train"),
    ):
        test = [i for i in corpus.of(splits) if parts[i] == part and i >= evidence.first]
        if len(test) < 3:
            continue
        truth_B = corpus.accuracy[test]
        found: dict[str, Any] = {
            control: goodness(linear_prediction(design, corpus, train, test), truth_B)
            for control, design in designs.items()
        }
        rows = ensemble_rows(reader, evidence.texts, test)
        for kind, (method, (_, quality_BM)) in enumerate(rows.items()):
            own = goodness(quality_BM.mean(1), truth_B)
            found[method] = {**own, **calibration(reader.model.quality, kind, quality_BM, truth_B)}
        alone_BS = rows["weights alone"][0]
        known_B = reader.model.quality.distance(alone_BS) <= reader.model.quality.limit
        result[name] = {
            "adapters": len(test),
            "known": float(known_B.double().mean()),
            "methods": found,
            "facts": fact_table(reader, alone_BS, test),
        }
    return result


def _mean_texts(reader: CorpusReader, texts: TextBank, tasks: Sequence[str]) -> Tensor:
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
    }
    out.mkdir(parents=True, exist_ok=True)
    atomic_write_json(out / "report.json", found)
    atomic_write_bytes(out / "report.md", markdown(found).encode())
    figure(found, out / "report.svg")
    return found


if __name__ == "__main__":
    main()
