"""Fit what `score` says of generated adapters, and measure it on tasks kept apart.

    python -m lora_gen.evaluation.encoder_generated --zoo build/tiny_lm/zoo
        --generated build/tiny_lm/generated_zoo --cache build/cache --out build/generated.json
        [--encoder FOLDER] [--calibration FILE]

`--zoo` is what the generator learned from. Half of the tasks with generated adapters fit the
regression, a quarter calibrates its intervals, and on the last quarter everything is measured,
beside controls that are fitted to the same adapters.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lora_gen.errors import ConfigError
from lora_gen.evaluation.encoder_quality import calibration, goodness
from lora_gen.evaluation.encoder_retrieval import by_slot, one_hot
from lora_gen.evaluation.statistics import mean_interval, paired_difference_interval
from lora_gen.files import atomic_write_json
from lora_gen.models.adapter_encoder import AdapterEncoder
from lora_gen.retrieval.corpus import Corpus, CorpusConfig, corpus_of
from lora_gen.retrieval.encoder import WeightEncoder, default_encoder
from lora_gen.retrieval.fit_generated import GeneratedRows, fit_generated, part_of
from lora_gen.retrieval.generated import GeneratedQuality, Learned, generated_inputs
from lora_gen.retrieval.reader import CorpusReader
from lora_gen.retrieval.texts import text_bank
from lora_gen.zoo.store import Zoo


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Generated adapters, what is read of them, and what simpler models could read instead."""

    rows: GeneratedRows
    learned: Learned
    requests: tuple[str, ...]
    """What was asked for each adapter; candidates of one request have the same."""
    first: tuple[bool, ...]
    """Whether the adapter is the first candidate of its request."""
    own: Tensor
    """What the encoder's own members say, told the description, (N, M)."""
    controls: dict[str, Tensor]
    """Name -> inputs, (N, features)."""


def load_measured(
    zoo: Path, generated: Sequence[Path], cache: Path, encoder: WeightEncoder
) -> Measured:
    """Read the zoos through the encoder's frames.

    Raises:
        ZooError: A zoo cannot be read.
    """
    model = encoder.model
    sketch = encoder.frames.sketch if encoder.frames else CorpusConfig().sketch
    config = CorpusConfig(views=tuple(model.config.views), sketch=sketch)
    learned = _learned(zoo, config, cache, encoder)
    parts = []
    for folder in generated:
        with Zoo.open(folder, read_only=True) as opened:
            parts.append(corpus_of(opened, config, cache, frames=encoder.frames))
    corpus = Corpus.join(parts)
    asked = [json.loads(fact)["generated"] for fact in corpus.facts]
    kinds = [a.get("kind", split) for a, split in zip(asked, corpus.splits, strict=True)]
    text_NE = _text_vectors(model, [a["text"] for a in asked], config, cache)
    reader, everything = CorpusReader(model, corpus), range(len(corpus))
    vector_NE, _ = reader.embed(everything)
    _, told_NS = reader.embed(everything, (vector_NE * text_NE).sum(1))
    slots = len(model.config.roles) * model.config.depth_bins
    near_NF = learned.near(text_NE, vector_NE)
    return Measured(
        rows=GeneratedRows(
            inputs=generated_inputs(learned, told_NS, text_NE, vector_NE),
            truth=corpus.accuracy,
            tasks=corpus.tasks,
            kinds=tuple(kinds),
            ranks=tuple(int(json.loads(fact)["rank"]) for fact in corpus.facts),
        ),
        learned=learned,
        requests=tuple(json.dumps({**a, "candidate": 0}) for a in asked),
        first=tuple(a.get("candidate", 0) == 0 for a in asked),
        own=model.quality(told_NS),
        controls={
            "norms": by_slot(corpus, reader.slots, slots, lambda rows: corpus.scale[rows][:, None]),
            "rank and steps": one_hot([float(10 * a["rank"] + a["steps"]) for a in asked]),
            "weights, no description": told_NS[:, :-2],
            "description, no weights": torch.cat([text_NE, near_NF[:, [1, 9]]], 1),
        },
    )


def _learned(zoo: Path, config: CorpusConfig, cache: Path, encoder: WeightEncoder) -> Learned:
    """Vectors of every seen entry of a zoo and of its first description."""
    with Zoo.open(zoo, read_only=True) as opened:
        corpus = corpus_of(opened, config, cache, frames=encoder.frames)
        said = {entry.id: entry.descriptions[0] for entry in opened.entries(split="seen")}
    seen = [i for i, entry_id in enumerate(corpus.ids) if entry_id in said]
    vectors_ME, _ = CorpusReader(encoder.model, corpus, seen).embed(seen)
    texts_ME = _text_vectors(encoder.model, [said[corpus.ids[i]] for i in seen], config, cache)
    return Learned(texts=texts_ME, adapters=vectors_ME)


@torch.no_grad()
def _text_vectors(
    model: AdapterEncoder, texts: Sequence[str], config: CorpusConfig, cache: Path
) -> Tensor:
    """Vectors of texts, (N, E)."""
    bank = text_bank({text: (text,) for text in texts}, cache, encoder=config.text_encoder)
    rows, parts = [bank.rows[text][0] for text in texts], []
    for start in range(0, len(rows), 128):
        parts.append(model.embed_texts(*bank.padded(rows[start : start + 128])))
    return torch.cat(parts)


def chosen_rows(found: Measured, part: str, *, without: str = "") -> list[int]:
    """First candidates of the requests in a part, but for one kind."""
    return [
        n
        for n, task in enumerate(found.rows.tasks)
        if found.first[n] and part_of(task) == part and found.rows.kinds[n] != without
    ]


def fitted(found: Measured, *, without: str = "") -> GeneratedQuality:
    """The regression of the fitting tasks, calibrated on those kept for it."""
    fit, held = (chosen_rows(found, part, without=without) for part in ("fit", "calibration"))
    return fit_generated(found.learned, found.rows.of(fit), found.rows.of(held))


def table_row(quality: GeneratedQuality, rows: GeneratedRows) -> dict[str, Any]:
    """How good predictions and intervals are; intervals over tasks."""
    predicted_N = quality.predict(rows.inputs)
    low_N, high_N = quality.interval(predicted_N)
    inside_N = (rows.truth >= low_N - 1e-6) & (rows.truth <= high_N + 1e-6)
    known_N = quality.distance(rows.inputs) <= quality.limit
    return {
        "adapters": len(rows.tasks),
        "tasks": len(set(rows.tasks)),
        "accuracy": float(rows.truth.mean()),
        "known": float(known_N.double().mean()),
        **goodness(predicted_N, rows.truth),
        "coverage": mean_interval(inside_N.double().tolist(), clusters=rows.tasks).to_dict(),
        "mean width": float((high_N - low_N).mean()),
    }


def measure(found: Measured, quality: GeneratedQuality, encoder: WeightEncoder) -> dict[str, Any]:
    """Every table of the page: by kind, of each kind left out, controls, and choosing."""
    test = chosen_rows(found, "test")
    rows = found.rows.of(test)
    kinds = sorted(set(rows.kinds))
    members = {kind: [n for n, own in enumerate(rows.kinds) if own == kind] for kind in kinds}
    splits = {"all": table_row(quality, rows)}
    splits |= {kind: table_row(quality, rows.of(members[kind])) for kind in kinds}
    left_out = {}
    for kind in kinds:
        unaware = fitted(found, without=kind)
        every = [n for n, own in enumerate(found.rows.kinds) if own == kind and found.first[n]]
        left_out[kind] = table_row(unaware, found.rows.of(every))
    own_NM = found.own[test]
    quality_of_encoder = encoder.model.quality
    methods = {
        "weights and description": _brief(splits["all"]),
        "the encoder's own heads": {
            **goodness(own_NM.mean(1), rows.truth),
            **calibration(quality_of_encoder.reach[1], own_NM, rows.truth),
        },
    }
    for name, design_NF in _controls(found).items():
        control = replace(found, rows=replace(found.rows, inputs=design_NF))
        methods[f"control: {name}"] = _brief(table_row(fitted(control), control.rows.of(test)))
    return {
        "splits": splits,
        "left out": left_out,
        "methods": methods,
        "choosing": choosing(found, quality),
    }


def _brief(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("tau", "r2", "mae", "coverage", "mean width")}


def _controls(found: Measured) -> dict[str, Tensor]:
    """Inputs that could do as well, and the right ones of other adapters."""
    order = torch.randperm(len(found.own), generator=torch.Generator().manual_seed(0))
    return {**found.controls, "inputs permuted": found.rows.inputs[order]}


def choosing(found: Measured, quality: GeneratedQuality) -> dict[str, Any]:
    """What the candidate with the best prediction gains on test tasks, and what is left to gain."""
    groups: dict[str, list[int]] = {}
    for n, request in enumerate(found.requests):
        if part_of(found.rows.tasks[n]) == "test":
            groups.setdefault(request, []).append(n)
    several = [members for members in groups.values() if len(members) > 1]
    if len(several) < 2:
        return {}
    several = [sorted(members, key=lambda n: not found.first[n]) for members in several]
    truth = [found.rows.truth[members] for members in several]
    best = [int(quality.predict(found.rows.inputs[members]).argmax()) for members in several]
    chosen = [float(own[place]) for own, place in zip(truth, best, strict=True)]
    others = {
        "first": [float(own[0]) for own in truth],
        "random": [float(own.mean()) for own in truth],
        "best in hindsight": [float(own.max()) for own in truth],
    }
    return {
        "requests": len(several),
        "candidates": len(several[0]),
        "chosen": mean_interval(chosen).to_dict(),
        **{name: mean_interval(values).to_dict() for name, values in others.items()},
        "gain": {
            f"over {name}": paired_difference_interval(chosen, others[name]).to_dict()
            for name in ("first", "random")
        },
    }


def main() -> None:
    """Fit, measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--zoo", type=Path, required=True, help="what the generator learned from")
    parser.add_argument("--generated", type=Path, nargs="+", required=True)
    parser.add_argument("--cache", type=Path, default=Path("build/cache"))
    parser.add_argument("--encoder", type=Path, help="default: the embedded one")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--calibration", type=Path, help="file to write for `score`")
    args = parser.parse_args()
    encoder = WeightEncoder.from_pretrained(args.encoder) if args.encoder else default_encoder()
    if encoder is None:
        raise ConfigError("There is no embedded adapter encoder. Pass `--encoder FOLDER`.")
    found = load_measured(args.zoo, args.generated, args.cache, encoder)
    quality = fitted(found)
    report = measure(found, quality, encoder)
    for name, values in report["splits"].items():
        print(
            f"{name:20} tau {values['tau']:.3f} R2 {values['r2']:.3f} "
            f"covers {values['coverage']['value']:.3f} width {values['mean width']:.2f}"
        )
    atomic_write_json(args.out, report)
    if args.calibration:
        quality.save(args.calibration)


if __name__ == "__main__":
    main()
