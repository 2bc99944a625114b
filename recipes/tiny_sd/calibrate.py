"""Find at which strength a generator's adapters draw styles best, and write it into its config.

    python -m recipes.tiny_sd.calibrate --zoo build/tiny_sd/zoo --reader build/tiny_sd/reader/final
        --generator build/tiny_sd/generator/final --out build/tiny_sd/reports

Training asks for one step of a picture's sampler at a time; drawn in many, and with guidance, an
adapter's effect adds up. The strength is chosen on seen styles, so that no held-out one is spent on
it; the trained adapters are drawn at each strength too, to see whether they would gain as much.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.algebra import scale
from lora_gen.evaluation.report import GENERATED, ORACLE
from lora_gen.evaluation.statistics import mean_interval
from lora_gen.files import atomic_write_json
from lora_gen.pipeline import LoraGenPipeline
from lora_gen.zoo.store import Zoo
from recipes.tiny_sd.evaluate import Measure, ways, wordings
from recipes.tiny_sd.reader_task import load_reader

STRENGTHS = (1.0, 0.9, 0.8, 0.7)
SPLIT = "seen"


def curve(measure: Measure, styles: Sequence[str], adapters: Sequence[Adapter]) -> dict[str, Any]:
    """Strength -> style and content over the styles, with intervals."""
    found: dict[str, Any] = {}
    for strength in STRENGTHS:
        rows = [
            measure.scores(s, scale(a, strength)) for s, a in zip(styles, adapters, strict=True)
        ]
        style, content = ([row[i] for row in rows] for i in (0, 1))
        found[f"{strength:g}"] = {
            "style": mean_interval(style).to_dict(),
            "content": mean_interval(content).to_dict(),
        }
        print(f"{strength:g}: style {found[f'{strength:g}']['style']['value']:.3f}", flush=True)
    return found


def best_of(found: dict[str, Any]) -> float:
    """The strength with the best style."""
    return float(max(found, key=lambda strength: float(found[strength]["style"]["value"])))


def main() -> None:
    """Write strength.json, and the strength into the generator's config."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", default="tiny_sd")
    for name in ("zoo", "reader", "generator", "out"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--styles", type=int, default=24)
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--steps", type=int, default=12)
    args = parser.parse_args()
    torch.set_num_threads(1)
    measure = Measure(
        args.base, load_reader(Path(args.reader)), pictures=args.pictures, steps=args.steps
    )
    pipe = LoraGenPipeline.from_pretrained(args.generator)
    with Zoo.open(args.zoo, read_only=True) as zoo:
        entries = sorted(zoo.entries(split=SPLIT), key=lambda entry: entry.task)
        chosen = random.Random(1).sample(entries, min(args.styles, len(entries)))
        texts, names = [wordings(e, SPLIT, 0) for e in chosen], [e.task for e in chosen]
        drawn = ways(zoo, args.generator)[GENERATED](texts, 0)
        made = [scale(adapter, 1 / pipe.denoiser.config.strength) for adapter in drawn]
        found = {
            GENERATED: curve(measure, names, made),
            ORACLE: curve(measure, names, [zoo.load(e.id) for e in chosen]),
        }
    strength = best_of(found[GENERATED])
    pipe.denoiser.register_to_config(strength=strength)
    pipe.denoiser.save_config(Path(args.generator) / "denoiser")
    report = {"split": SPLIT, "styles": names, "chosen": strength, "curves": found}
    atomic_write_json(Path(args.out) / "strength.json", report)
    print(f"Strength {strength:g} is in the config of `{args.generator}`.")


if __name__ == "__main__":
    main()
