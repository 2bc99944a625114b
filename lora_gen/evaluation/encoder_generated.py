"""What the encoder says of adapters that a generator made, beside how well they do.

    python -m lora_gen.evaluation.encoder_generated --zoo build/tiny_lm/generated_zoo
        --texts build/tiny_lm/encoder_texts.jsonl --out build/generated.json [--encoder FOLDER]

Adapters of seen tasks count only where neither training nor calibration read them.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from lora_gen.errors import ConfigError
from lora_gen.evaluation.encoder_quality import calibration, ensemble_rows, goodness
from lora_gen.evaluation.encoder_report import SEEN, UNSEEN, Evidence, load_evidence
from lora_gen.files import atomic_write_json
from lora_gen.retrieval.encoder import WeightEncoder, default_encoder
from lora_gen.retrieval.reader import CorpusReader


@torch.no_grad()
def measure(evidence: Evidence) -> dict[str, Any]:
    """By split: how many are known, and how good predictions and intervals are."""
    reader, corpus = CorpusReader(evidence.encoder.model, evidence.corpus), evidence.corpus
    groups = {
        "unseen tasks": corpus.of(UNSEEN),
        "seen tasks": [i for i in corpus.of(SEEN) if evidence.parts[i] == "test"],
    }
    found = {}
    for name, entries in groups.items():
        rows = ensemble_rows(reader, evidence.texts, entries)
        inputs_BS, quality_BM = rows["weights alone"]
        quality = reader.model.quality
        truth_B = corpus.accuracy[entries]
        found[name] = {
            "adapters": len(entries),
            "accuracy": float(truth_B.mean()),
            "known": float((quality.distance(inputs_BS) <= quality.limit).double().mean()),
            **goodness(quality_BM.mean(1), truth_B),
            **calibration(reader, 0, quality_BM, truth_B),
        }
        told_BM = rows["weights and description"][1]
        found[f"{name}, told the description"] = {
            **found[name],
            **goodness(told_BM.mean(1), truth_B),
            **calibration(reader, 1, told_BM, truth_B),
        }
    return {"splits": found}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--zoo", type=Path, required=True, help="of generated adapters")
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=Path("build/cache"))
    parser.add_argument("--encoder", type=Path, help="default: the embedded one")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    encoder = WeightEncoder.from_pretrained(args.encoder) if args.encoder else default_encoder()
    if encoder is None:
        raise ConfigError("There is no embedded adapter encoder. Pass `--encoder FOLDER`.")
    found = measure(load_evidence([args.zoo], args.texts, args.cache, encoder))
    for name, values in found["splits"].items():
        print(f"{name:40} known {values['known']:.2f} tau {values['tau']:.3f}")
    atomic_write_json(args.out, found)


if __name__ == "__main__":
    main()
