"""Measure lenses and every simpler way on held-out words and on the hand-written sentences.

    python -m recipes.minilm_lenses.evaluate --zoo build/minilm_lenses/zoo
        --out build/minilm_lenses/report

Writes report.json and report.md: mAP, accuracies and the share of the oracle's gain, with 95%
bootstrap intervals over criteria.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from lora_gen.errors import ConfigError
from lora_gen.evaluation.embedding import Embedder
from lora_gen.evaluation.lens_fitting import LensFitConfig
from lora_gen.evaluation.lenses import (
    BASE,
    ORACLE,
    LensTask,
    Way,
    few_shot,
    linear_map,
    measure,
    whitened,
    with_adapter,
    with_instruction,
    zoo_ways,
)
from lora_gen.evaluation.statistics import mean_interval, share_of_gain
from lora_gen.files import atomic_write_json, atomic_write_text
from lora_gen.zoo.store import Zoo
from recipes.minilm_lenses.train_lenses import TEST_SEED, TEST_SENTENCES, examples_of
from recipes.minilm_lenses.world.criteria import descriptions, make_splits
from recipes.minilm_lenses.world.handwritten import HAND, handwritten, handwritten_criteria
from recipes.minilm_lenses.world.sentences import corpus, free_sentences
from recipes.minilm_lenses.world.tables import criteria

EXAMPLES = (8, 32)
OTHERS = 6
"""Other criteria whose loss is measured, those that most of the sentences realize."""
POOL = 512
MEASURES = {"map": "mAP", "knn": "8-NN accuracy", "zero_shot": "value names as classes"}
MEASURES |= {"others": "mAP of other criteria"}


def task_of(key: str) -> LensTask:
    """The task of a criterion on sentences of held-out vocabulary."""
    found = corpus(key, TEST_SENTENCES, TEST_SEED, is_held_out=True)
    counts = Counter(other for one in found for other in one.labels if other != key)
    common = sorted(name for name, _ in counts.most_common(OTHERS))
    return LensTask(
        name=key,
        description=descriptions(key, 1)[0],
        texts=tuple(one.text for one in found),
        values=tuple(one.labels[key] for one in found),
        sources=tuple(one.sources.get(key) for one in found),
        names=names_of(key),
        examples=tuple(examples_of(key)[: max(EXAMPLES)]),
        others={name: tuple(one.labels.get(name) for one in found) for name in common},
    )


def handwritten_task(key: str) -> LensTask:
    """The task of a criterion on the hand-written sentences."""
    found = [(one.text, one.labels[key]) for one in handwritten() if key in one.labels]
    return LensTask(
        name=key,
        description=descriptions(key, 1)[0],
        texts=tuple(text for text, _ in found),
        values=tuple(value for _, value in found),
        sources=tuple(None for _ in found),
        names=names_of(key),
        examples=tuple(examples_of(key)[: max(EXAMPLES)]),
    )


def names_of(key: str) -> dict[str, str]:
    """Each value of a criterion in words."""
    criterion = criteria()[key]
    return {value: f"{criterion.sayings[0][0]}: {value}" for value in criterion.values}


def ways_of(zoo: Zoo) -> dict[str, Way]:
    """Every way by name, the base first."""
    embedder, trainer = Embedder.from_pretrained(), Embedder.from_pretrained(dtype=torch.bfloat16)
    pool = [one.text for one in free_sentences(POOL, 0)]
    config = LensFitConfig()
    ways = {
        BASE: with_adapter(embedder, lambda task: None),
        "instruction": with_instruction(embedder),
        "whitening": whitened(embedder, pool),
    }
    for count in EXAMPLES:
        ways[f"linear map, {count} examples"] = linear_map(embedder, count)
        fitted = few_shot(trainer, count, config)
        ways[f"few-shot LoRA, {count} examples"] = with_adapter(embedder, fitted)
    return ways | zoo_ways(embedder, zoo, embedder.encoder)


def tasks_of(zoo: Zoo, limit: int | None) -> dict[str, list[LensTask]]:
    """Split -> tasks whose oracle is in the zoo, at most `limit` of each."""
    known = {entry.task for entry in zoo.entries()}
    splits = {name: sorted(known & set(keys)) for name, keys in make_splits().items()}
    tasks = {}
    for name, keys in splits.items():
        random.Random(0).shuffle(keys)
        tasks[name] = [task_of(key) for key in keys[:limit]]
    for name, kind in (("seen", HAND), ("unseen_primitive", f"{HAND}, unseen")):
        keys = [key for key in handwritten_criteria() if key in splits[name]]
        tasks[kind] = [handwritten_task(key) for key in keys[:limit]]
    return {name: found for name, found in tasks.items() if len(found) > 1}


def summary(scores: Mapping[str, Sequence[Mapping[str, float]]]) -> dict[str, Any]:
    """Intervals of every way and measure, and shares of the oracle's gain in mAP."""
    found: dict[str, Any] = {}
    for way, rows in scores.items():
        found[way] = {
            name: mean_interval([row[name] for row in rows]).to_dict()
            for name in MEASURES
            if name in rows[0]
        }
        if way in (BASE, ORACLE):
            continue
        own, base, oracle = ([row["map"] for row in scores[w]] for w in (way, BASE, ORACLE))
        try:
            found[way]["share"] = share_of_gain(own, base, oracle).to_dict()
        except ConfigError as error:
            found[way]["no_share"] = str(error)
    return found


def to_markdown(report: Mapping[str, Any]) -> str:
    """One table a split."""
    lines = ["# Lenses", ""]
    for split, rows in report["summary"].items():
        count = len(report["tasks"][split])
        columns = [name for name in MEASURES if name in rows[BASE]]
        heads = [MEASURES[name] for name in columns]
        lines += [f"## {split.replace('_', ' ')} ({count} criteria)", ""]
        lines += ["| way | " + " | ".join([*heads, "share of the oracle's gain"]) + " |"]
        lines += ["| --- |" + " --- |" * (len(heads) + 1)]
        for way, row in rows.items():
            cells = [_cell(row.get(name)) for name in (*columns, "share")]
            lines.append(f"| {way} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def _cell(interval: Mapping[str, float] | None) -> str:
    if interval is None:
        return "\u2013"
    return f"{interval['value']:.3f} [{interval['low']:.2f}, {interval['high']:.2f}]"


def main() -> None:
    """Measure what is asked for and write the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--zoo", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=int, help="criteria of a split at most")
    parser.add_argument("--ways", nargs="*", help="only these besides base and oracle")
    args = parser.parse_args()
    torch.set_num_threads(1)
    started = time.time()
    with Zoo.open(args.zoo, read_only=True) as zoo:
        ways, splits = ways_of(zoo), tasks_of(zoo, args.limit)
        if args.ways is not None:
            ways = {name: ways[name] for name in dict.fromkeys((BASE, *args.ways, ORACLE))}
        scores: dict[str, dict[str, list[dict[str, float]]]] = {}
        for split, tasks in splits.items():
            scores[split] = {name: [] for name in ways}
            for task in tasks:
                for name, way in ways.items():
                    scores[split][name].append(measure(task, way))
                print(f"{split}: {task.name}, {time.time() - started:.0f} s", flush=True)
    report = {
        "tasks": {split: [task.name for task in tasks] for split, tasks in splits.items()},
        "scores": scores,
        "summary": {split: summary(found) for split, found in scores.items()},
    }
    args.out.mkdir(parents=True, exist_ok=True)
    atomic_write_json(args.out / "report.json", report)
    atomic_write_text(args.out / "report.md", to_markdown(report))
    print(to_markdown(report))


if __name__ == "__main__":
    main()
