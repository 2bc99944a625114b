"""Measure lenses and every simpler way on held-out words and on the hand-written sentences.

    python -m recipes.minilm_lenses.evaluate --zoo build/minilm_lenses/zoo
        --generator build/minilm_lenses/generator/final --out build/minilm_lenses/report

Writes report.json and report.md: mAP, accuracies and the share of the oracle's gain, with 95%
bootstrap intervals over criteria. Goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from lora_gen.evaluation.embedding import Embedder
from lora_gen.evaluation.lens_fitting import LensFitConfig
from lora_gen.evaluation.lens_generated import (
    Find,
    chosen,
    continued,
    generated_by,
    generated_ways,
)
from lora_gen.evaluation.lens_named import on_names, taught
from lora_gen.evaluation.lens_reader import LensReader
from lora_gen.evaluation.lenses import (
    BASE,
    ORACLE,
    Embeds,
    LensTask,
    Way,
    few_shot,
    linear_map,
    measure,
    nearest_lenses,
    whitened,
    with_adapter,
    with_instruction,
    zoo_ways,
)
from lora_gen.files import atomic_write_json, atomic_write_text
from lora_gen.pipeline import LoraGenPipeline
from lora_gen.zoo.store import Zoo
from recipes.minilm_lenses.lens_tables import summary, to_markdown
from recipes.minilm_lenses.tasks import NEW, UNTOUCHED, is_watched, tasks_of
from recipes.minilm_lenses.world.sentences import free_sentences

COUNTS, CONTINUED, CHOSEN = (8, 16, 32), 16, 16
POOL, UNLABELED = 256, 768


def simple_ways(reader: Embeds, trainer: Embedder) -> dict[str, Way]:
    """The base, what turns its space, and training from nothing."""
    pool = [one.text for one in free_sentences(POOL, 0)]
    config = LensFitConfig()
    ways = {
        BASE: with_adapter(reader, lambda task: None),
        "instruction": with_instruction(trainer),
        "whitening": whitened(reader, pool),
    }
    for count in COUNTS:
        ways[f"linear map, {count} sentences"] = linear_map(reader, count)
        fitted = few_shot(trainer, count, config)
        ways[f"few-shot LoRA, {count} sentences"] = with_adapter(reader, fitted)
    return ways


def named_ways(reader: LensReader, pipe: LoraGenPipeline | None) -> dict[str, Way]:
    """What the names of the values bring, alone and with labeled sentences."""
    config, trainer, more = LensFitConfig(), reader.embedder, f"{CONTINUED} sentences and names"
    pool = [one.text for one in free_sentences(UNLABELED, 1)]
    finds: dict[str, Find] = {
        "taught by value names": taught(reader, pool, config),
        f"few-shot LoRA, {more}": few_shot(trainer, CONTINUED, config, with_names=True),
    }
    if pipe is not None:
        make = generated_by(pipe)
        finds[f"generated + {more}"] = continued(
            trainer, lambda task: make(task.named), CONTINUED, config, with_names=True
        )
    found = {name: with_adapter(reader, find) for name, find in finds.items()}
    return {"directions of value names": on_names(reader)} | found


def informed_ways(reader: LensReader, zoo: Zoo, pipe: LoraGenPipeline | None) -> dict[str, Way]:
    """What a zoo and a generator add: by words, and by words with 16 labeled sentences."""
    config, trainer, more = LensFitConfig(), reader.embedder, f"{CONTINUED} sentences"
    ways = zoo_ways(reader, zoo, trainer.encoder)
    finds: dict[str, Find] = {}
    near = nearest_lenses(zoo, trainer.encoder, CHOSEN)
    finds[f"nearest lens + {more}"] = continued(
        trainer, lambda task: near(task)[0], CONTINUED, config
    )
    finds[f"best by {more} of {CHOSEN} nearest lenses"] = chosen(reader, near, CONTINUED)
    if pipe is not None:
        make = generated_by(pipe)
        ways |= generated_ways(reader, pipe)
        own = continued(trainer, lambda task: make(task.description), CONTINUED, config)
        finds[f"generated + {more}"] = own
    return ways | {name: with_adapter(reader, find) for name, find in finds.items()}


def measured(task: LensTask, ways: dict[str, Way]) -> dict[str, Any]:
    """Scores of every way on a task."""
    return {name: measure(task, way) for name, way in ways.items()}


def report_of(scores: dict[str, dict[str, Any]], splits: dict[str, list[str]]) -> dict[str, Any]:
    """Scores by split and way, with intervals."""
    if NEW in splits:
        untouched = [key for key in splits[NEW] if not is_watched(key)]
        splits = splits | ({UNTOUCHED: untouched} if len(untouched) > 1 else {})
    by_split = {}
    for split, keys in splits.items():
        rows = [scores[f"{split.removesuffix(', never looked at')}/{key}"] for key in keys]
        common = [way for way in rows[0] if all(way in row for row in rows)]
        by_split[split] = {way: [row[way] for row in rows] for way in common}
    return {
        "tasks": splits,
        "scores": by_split,
        "summary": {
            split: summary(found) for split, found in by_split.items() if len(splits[split]) > 1
        },
    }


def main() -> None:
    """Measure what is asked for and write the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--zoo", type=Path, required=True)
    parser.add_argument("--generator", type=Path, help="folder of the generator")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=int, help="seen criteria at most")
    parser.add_argument("--splits", nargs="*", help="only these, such as unseen_primitive")
    parser.add_argument("--ways", nargs="*", help="only these besides base and oracle")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    journal, started = args.out / "scores.json", time.time()
    scores = json.loads(journal.read_text()) if journal.is_file() else {}
    with Zoo.open(args.zoo, read_only=True) as zoo:
        reader = LensReader(Embedder.from_pretrained(dtype=torch.bfloat16))
        pipe = LoraGenPipeline.from_pretrained(args.generator) if args.generator else None
        ways = simple_ways(reader, reader.embedder) | informed_ways(reader, zoo, pipe)
        ways |= named_ways(reader, pipe)
        if args.ways is not None:
            ways = {name: ways[name] for name in dict.fromkeys((BASE, *args.ways, ORACLE))}
        splits = tasks_of([entry.task for entry in zoo.entries() if entry.task], args.limit)
        if args.splits:
            splits = {name: tasks for name, tasks in splits.items() if name in args.splits}
        for split, tasks in splits.items():
            for task in tasks:
                name = f"{split}/{task.name}"
                missing = {w: way for w, way in ways.items() if w not in scores.get(name, {})}
                if missing:
                    known = scores.get(name, {}) | measured(task, missing)
                    scores[name] = {way: known[way] for way in {**ways, **known}}
                    atomic_write_json(journal, scores)
                    print(f"{name}, {time.time() - started:.0f} s", flush=True)
    report = report_of(scores, {split: [task.name for task in t] for split, t in splits.items()})
    atomic_write_json(args.out / "report.json", report)
    atomic_write_text(args.out / "report.md", to_markdown(report))
    print(to_markdown(report))


if __name__ == "__main__":
    main()
