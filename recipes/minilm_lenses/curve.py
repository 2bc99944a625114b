"""Text-only lenses against the number of criteria that their generator learned from.

    python -m recipes.minilm_lenses.curve --out build/minilm_lenses/curve
        --runs 16=build/minilm_lenses/curve/16/final 125=build/minilm_lenses/generator/final

Writes curve.json: of each generator the gain in mAP over the base on unseen criteria, with 95%
bootstrap intervals over criteria. `make_behaviors --criteria 16` writes what a run learns from.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from lora_gen.evaluation.embedding import Embedder
from lora_gen.evaluation.lens_generated import generated_by
from lora_gen.evaluation.lens_reader import LensReader
from lora_gen.evaluation.lenses import LensTask, measure, with_adapter
from lora_gen.evaluation.statistics import mean_interval
from lora_gen.files import atomic_write_json
from lora_gen.pipeline import LoraGenPipeline
from recipes.minilm_lenses.tasks import HAND_SEEN, tasks_of
from recipes.minilm_lenses.world.criteria import make_splits


def gains(pipe: LoraGenPipeline, reader: LensReader, tasks: list[LensTask]) -> dict[str, float]:
    """Mean gain in mAP on some tasks, with its interval."""
    make, found = generated_by(pipe), []
    base = with_adapter(reader, lambda task: None)
    own = with_adapter(reader, lambda task: make(task.description))
    for task in tasks:
        found.append(measure(task, own)["map"] - measure(task, base)["map"])
    return mean_interval(found).to_dict()


def steps_of(folder: Path) -> int:
    """Steps that a generator was trained for, by the log beside it; 0 where there is none."""
    log = folder.parent / "metrics.jsonl"
    rows = [json.loads(line) for line in log.open()] if log.is_file() else []
    return max((int(row["step"]) for row in rows), default=0)


def main() -> None:
    """Measure every run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", nargs="+", required=True, help="criteria=folder")
    args = parser.parse_args()
    torch.set_num_threads(1)
    reader = LensReader(Embedder.from_pretrained(dtype=torch.bfloat16), keep=20_000)
    unseen = [key for name, keys in make_splits().items() if name != "seen" for key in keys]
    tasks = tasks_of(unseen, None)
    tasks.pop(HAND_SEEN, None)
    rows: list[dict[str, Any]] = []
    for run in args.runs:
        count, _, place = run.partition("=")
        pipe = LoraGenPipeline.from_pretrained(place)
        found = {split: gains(pipe, reader, own) for split, own in tasks.items()}
        rows.append({"criteria": int(count), "steps": steps_of(Path(place)), "splits": found})
        print(rows[-1], flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    atomic_write_json(args.out / "curve.json", rows)


if __name__ == "__main__":
    main()
