"""At which strength do a generator's lenses do best? Measured on watched criteria, then kept.

    python -m recipes.minilm_lenses.calibrate --generator build/minilm_lenses/generator/chosen
        --out build/minilm_lenses/report

A lens for a criterion that training never met is less sure than one for a seen criterion, and at
full strength bends the base too far.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lora_gen.adapter.algebra import scale
from lora_gen.evaluation.embedding import Embedder
from lora_gen.evaluation.lens_generated import generated_by
from lora_gen.evaluation.lens_measures import mean_average_precision
from lora_gen.evaluation.lens_reader import LensReader
from lora_gen.evaluation.lenses import LensTask
from lora_gen.files import atomic_write_json
from lora_gen.pipeline import LoraGenPipeline
from recipes.minilm_lenses.tasks import task_of
from recipes.minilm_lenses.world.criteria import WATCHED, family_of
from recipes.minilm_lenses.world.tables import criteria

STRENGTHS = (0.4, 0.6, 0.8, 1.0)


def curve(
    reader: LensReader, pipe: LoraGenPipeline, tasks: Sequence[LensTask]
) -> dict[str, dict[str, float]]:
    """Strength -> mAP, values unnamed and named, over criteria; that of the base at 0."""
    make = generated_by(pipe)
    found = {}
    for strength in (0.0, *STRENGTHS):
        row = {}
        for name in ("description", "named"):
            scores = []
            for task in tasks:
                lens = scale(make(getattr(task, name)), strength) if strength else None
                vectors = reader.embed(task.texts, lens)
                scores.append(mean_average_precision(vectors, task.values, sources=task.sources))
            row[name] = sum(scores) / len(scores)
        found[f"{strength:g}"] = row
        print(strength, row, flush=True)
    return found


def best_of(found: dict[str, dict[str, float]]) -> float:
    """The strength whose lenses are best over both ways to ask."""
    return float(max(list(found)[1:], key=lambda strength: sum(found[strength].values())))


def main() -> None:
    """Write strength.json, and the strength into the generator's config."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("generator", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    reader = LensReader(Embedder.from_pretrained(dtype=torch.bfloat16))
    pipe: Any = LoraGenPipeline.from_pretrained(args.generator)
    pipe.denoiser.register_to_config(strength=1.0)
    watched = sorted(key for key, one in criteria().items() if family_of(one) in WATCHED)
    found = curve(reader, pipe, [task_of(key) for key in watched])
    pipe.denoiser.register_to_config(strength=best_of(found))
    pipe.denoiser.save_config(args.generator / "denoiser")
    report = {"criteria": watched, "chosen": best_of(found), "map": found}
    atomic_write_json(args.out / "strength.json", report)
    print(f"Strength {best_of(found):g} is in the config of `{args.generator}`.")


if __name__ == "__main__":
    main()
