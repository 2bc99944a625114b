"""What choosing among N generated candidates by weights alone gains, without any example.

    python -m lora_gen.evaluation.encoder_rerank --zoo build/tiny_lm/zoo --out build/rerank.json
        [--tasks 32] [--samples 8] [--encoder FOLDER] [--generator FOLDER]

Each candidate is ordered by agreement of its vector with the description and by predicted quality,
given the description. Beside these stand a random candidate and the best one in hindsight.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lora_gen.adapter.adapter import Adapter
from lora_gen.assets import default_generator
from lora_gen.errors import ConfigError
from lora_gen.evaluation.bench import RANK, Bench, open_bench, scores
from lora_gen.evaluation.statistics import mean_interval
from lora_gen.evaluation.tasks import EvaluationTask, evaluation_tasks
from lora_gen.files import atomic_write_json
from lora_gen.retrieval.encoder import WeightEncoder, default_encoder
from lora_gen.retrieval.predict import rank_candidates

SPLITS = ("unseen_composition", "unseen_argument")


def measure(
    bench: Bench, encoder: WeightEncoder, tasks: Sequence[EvaluationTask], samples: int
) -> dict[str, list[float]]:
    """Exact match of the chosen candidate of each task, by how it was chosen."""
    found: dict[str, list[float]] = {
        name: [] for name in ("one sample", "agreement", "predicted quality", "best in hindsight")
    }
    for i, task in enumerate(tasks):
        text, noise = task.descriptions[0], torch.Generator().manual_seed(i)
        adapters: list[Adapter] = bench.pipe(
            text, base=bench.spec, rank=RANK, num_adapters=samples, generator=noise
        ).adapters
        truth = scores(bench, [task] * samples, adapters)
        reader = bench.pipe.encoder
        vector = encoder.embed_texts(reader.encode([text]), reader)[0]
        orders = rank_candidates(adapters, encoder, vector)
        found["one sample"].append(sum(truth) / samples)
        found["agreement"].append(truth[orders["agreement"][0]])
        found["predicted quality"].append(truth[orders["quality"][0]])
        found["best in hindsight"].append(max(truth))
    return found


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--zoo", type=Path, required=True)
    parser.add_argument("--base", default="tiny_lm")
    parser.add_argument("--generator", type=Path, default=default_generator())
    parser.add_argument("--encoder", type=Path, help="default: the embedded one")
    parser.add_argument("--tasks", type=int, default=32)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--inputs", type=int, default=16)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    encoder = WeightEncoder.from_pretrained(args.encoder) if args.encoder else default_encoder()
    if encoder is None:
        raise ConfigError("There is no embedded adapter encoder. Pass `--encoder FOLDER`.")
    with open_bench(args.zoo, args.generator, args.base, inputs=args.inputs) as bench:
        by_split = evaluation_tasks(bench.zoo, limit=args.tasks // len(SPLITS))
        tasks = [task for split in SPLITS for task in by_split.get(split, [])]
        found = measure(bench, encoder, tasks, args.samples)
    result: dict[str, Any] = {
        "tasks": len(found["agreement"]),
        "samples": args.samples,
        "methods": {name: mean_interval(values).to_dict() for name, values in found.items()},
    }
    for name, value in result["methods"].items():
        print(f"{name:20} {value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]")
    if args.out:
        atomic_write_json(args.out, result)


if __name__ == "__main__":
    main()
