"""Exact match of the bare base, zero-shot and few-shot, with bootstrap intervals over tasks.

python -m recipes.tiny_lm.measure_base --base lora_gen/assets/tiny_lm/base --out
lora_gen/assets/tiny_lm/reports/base.json
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path

import torch
from tqdm import tqdm  # type: ignore[import-untyped]

from lora_gen.conditioning.chat import load_causal_lm
from lora_gen.evaluation.behavior import exact_matches
from lora_gen.evaluation.statistics import mean_interval
from recipes.tiny_lm.train_adapters import TEST_PAIRS, TEST_SEED, TRAIN_PAIRS, TRAIN_SEED
from recipes.tiny_lm.world.tasks import all_tasks, pairs

SHOTS = (0, 1, 2, 4)


def main() -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--inputs", type=int, default=4)
    parser.add_argument(
        "--tasks", type=int, default=0, help="a random sample of tasks; 0 takes all"
    )
    parser.add_argument("--shots", type=int, nargs="*", default=list(SHOTS))
    args = parser.parse_args()
    model, chat = load_causal_lm(args.base)
    tasks = list(all_tasks())
    if args.tasks:
        tasks = random.Random(0).sample(tasks, args.tasks)
    started, report = time.time(), {}
    for shots in args.shots:
        scores = []
        for task in tqdm(tasks, desc=f"{shots} shots", mininterval=5):
            rng = random.Random(f"{task.name}/{shots}")
            pool = pairs(task, TRAIN_PAIRS, TRAIN_SEED)
            lines = []
            for text, answer in pairs(task, TEST_PAIRS, TEST_SEED)[: args.inputs]:
                question = chat.question(text, rng.sample([p for p in pool if p[0] != text], shots))
                tail, start = chat.line(text, answer)
                lines.append((question + tail[start:], len(question)))
            scores.append(float(exact_matches(model, chat.pack(lines)).float().mean()))
        report[f"{shots}-shot"] = mean_interval(scores).to_dict()
        print(shots, report[f"{shots}-shot"])
    record = {
        "tasks": len(tasks),
        "inputs": args.inputs,
        "exact_match": report,
        "seconds": round(time.time() - started),
    }
    Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    Path(args.out).write_text(json.dumps(record | {"torch": torch.__version__}, indent=1) + "\n")


if __name__ == "__main__":
    main()
