"""Train one lens for each criterion: several at once on all-MiniLM-L6-v2, written to a zoo.

    python -m recipes.minilm_lenses.train_lenses --out build/minilm_lenses/zoo

Resumable: criteria that the zoo already holds are skipped. The zoo keeps ordinary PEFT folders for
`sentence-transformers/all-MiniLM-L6-v2`. Every adapter is measured on sentences of held-out words,
frames and phrases; `accuracy` is that of 8 nearest neighbors.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lora_gen.adapter.adapter import Adapter
from lora_gen.evaluation.embedding import Embedder
from lora_gen.evaluation.lens_fitting import Example, LensFitConfig, fit_lenses, lens_adapter
from lora_gen.evaluation.lens_measures import knn_accuracy, mean_average_precision
from lora_gen.zoo.entry import EntryInfo
from lora_gen.zoo.store import Zoo
from recipes.minilm_lenses.world.criteria import descriptions, family_of, split_of
from recipes.minilm_lenses.world.sentences import corpus
from recipes.minilm_lenses.world.tables import choose, criteria

DRAWN_SENTENCES, TEST_SENTENCES = 288, 96
TRAIN_SEED, TEST_SEED = 1, 2
MEASURED = 48
"""Of the tests, how many each lens is tried on while the zoo is made."""
KEPT_EXAMPLES = 96
"""Of the training sentences, what the zoo keeps as examples."""
NUM_DESCRIPTIONS = 16


def examples_of(key: str) -> list[Example]:
    """Labeled sentences of a criterion, to train on, values in turn.

    Of those drawn the shorter half of each value, since time goes by tokens.
    """
    by_value: dict[str, list[str]] = {}
    for sentence in corpus(key, DRAWN_SENTENCES, TRAIN_SEED):
        by_value.setdefault(sentence.labels[key], []).append(sentence.text)
    kept = {value: set(sorted(some, key=len)[: len(some) // 2]) for value, some in by_value.items()}
    columns = ([(t, value) for t in some if t in kept[value]] for value, some in by_value.items())
    return [pair for row in zip(*columns, strict=False) for pair in row]


def anchors_of(key: str) -> list[Example]:
    """The words and phrases that realize a criterion, bare; none for what grammar realizes."""
    found = corpus(key, DRAWN_SENTENCES, TRAIN_SEED)
    rng = random.Random(f"anchors/{key}")
    pairs = {(one.sources[key], one.labels[key]) for one in found if key in one.sources}
    return [(choose(text, rng).strip(" ,"), value) for text, value in sorted(pairs)]


def tests_of(key: str) -> list[tuple[str, str, str | None]]:
    """(sentence, value, what realizes it) with held-out words, frames and phrases only."""
    found = corpus(key, TEST_SENTENCES, TEST_SEED, is_held_out=True)
    return [(one.text, one.labels[key], one.sources.get(key)) for one in found]


def measured(embedder: Embedder, key: str, adapter: Adapter) -> tuple[float, float]:
    """(mean average precision, accuracy of nearest neighbors) on some tests of a criterion."""
    texts, values, sources = zip(*tests_of(key)[:MEASURED], strict=True)
    vectors = embedder.embed(texts, adapter)
    found = mean_average_precision(vectors, values, sources=sources)
    return found, knn_accuracy(vectors, values, sources=sources)


def record(key: str, seed: int) -> dict[str, Any]:
    """What the zoo keeps of a criterion besides the adapter."""
    criterion = criteria()[key]
    examples, split = examples_of(key)[:KEPT_EXAMPLES], split_of(criterion)
    return {
        "task": key,
        # a family stays in one split of a zoo; another criterion on seen words is one by itself
        "family": key if split == "unseen_argument" else family_of(criterion),
        "split": split,
        "descriptions": descriptions(key, NUM_DESCRIPTIONS),
        "prompts": tuple(text for text, _ in examples[:16]),
        "examples": tuple(examples),
        "seed": seed,
    }


def train(
    embedder: Embedder, keys: Sequence[str], config: LensFitConfig, seed: int
) -> list[tuple[Adapter, EntryInfo]]:
    """Lenses of some criteria with what the zoo keeps of them."""
    seeds = [seed * 100_003 + i for i in range(len(keys))]
    data, anchors = ([of(key) for key in keys] for of in (examples_of, anchors_of))
    factors = fit_lenses(embedder, data, config, seeds=seeds, anchors=anchors)
    items = []
    for i, key in enumerate(keys):
        adapter = lens_adapter(factors, i, embedder.spec)
        precision, accuracy = measured(embedder, key, adapter)
        extra = {
            "held_out_descriptions": list(descriptions(key, 4, is_held_out=True)),
            "tests": tests_of(key),
            "map": precision,
        }
        info = EntryInfo(
            **record(key, seeds[i]), steps=config.steps, accuracy=accuracy, extra=extra
        )
        items.append((adapter, info))
        print(f"{key:32} mAP {precision:.3f}   8-NN {accuracy:.3f}", flush=True)
    return items


def main() -> None:
    """Train what is missing: criteria to learn from first, in random order."""
    defaults = LensFitConfig()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--stack", type=int, default=5, help="lenses trained together")
    parser.add_argument("--steps", type=int, default=defaults.steps)
    parser.add_argument("--batch", type=int, default=defaults.batch)
    parser.add_argument("--lr", type=float, default=defaults.lr)
    parser.add_argument("--anchors", type=float, default=defaults.anchor_share, help="their share")
    parser.add_argument("--rank", type=int, default=defaults.rank)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", help="only these criteria")
    parser.add_argument("--float32", action="store_true", help="for CPUs without bfloat16")
    args = parser.parse_args()
    torch.set_num_threads(1)
    embedder = Embedder.from_pretrained(dtype=torch.float32 if args.float32 else torch.bfloat16)
    config = LensFitConfig(
        rank=args.rank,
        steps=args.steps,
        batch=args.batch,
        lr=args.lr,
        anchor_share=args.anchors,
    )
    with Zoo.open(args.out, create=True) as zoo:
        done = {entry.task for entry in zoo.entries()}
        todo = [key for key in args.only or criteria() if key not in done]
        random.Random(args.seed).shuffle(todo)
        todo.sort(key=lambda key: split_of(criteria()[key]) != "seen")  # the generator waits
        started = time.time()
        for start in range(0, len(todo), args.stack):
            keys = todo[start : start + args.stack]
            zoo.add_many(train(embedder, keys, config, args.seed + start))
            print(
                f"{start + len(keys)} of {len(todo)}, {time.time() - started:.0f} s, "
                f"{time.process_time():.0f} s of one core",
                flush=True,
            )


if __name__ == "__main__":
    main()
