"""Write the behavior file: criteria with their descriptions and labeled sentences.

    python -m recipes.minilm_lenses.make_behaviors --out build/minilm_lenses

Training reads `seen` and `derived`, one value of a seen criterion against the rest. The others are
for evaluation only, and `watched`, a part of `unseen_primitive`, is what training may show.
Sentences of unseen criteria are of held-out vocabulary.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

from lora_gen.conditioning.condition import MAX_BYTES
from recipes.minilm_lenses.train_lenses import examples_of, tests_of
from recipes.minilm_lenses.world.criteria import WATCHED, descriptions, family_of, make_splits
from recipes.minilm_lenses.world.tables import criteria
from training.behavior_data import BehaviorRecord, write_behaviors

NUM_DESCRIPTIONS = {True: 24, False: 8}
REST = "anything else"
ONE_VALUE = (
    "{}: {value} or not",
    "{value} against everything else, by {}",
    "whether it is {value} ({})",
    "find what is {value}, as to {}",
)


def record(key: str, split: str) -> BehaviorRecord:
    """A criterion with sentences that fit where examples are shown."""
    is_seen = split == "seen"
    found = examples_of(key) if is_seen else [(text, value) for text, value, _ in tests_of(key)]
    fitting = [pair for pair in found if len("\t".join(pair).encode()) <= MAX_BYTES]
    return BehaviorRecord(
        task=key,
        split=split,
        descriptions=descriptions(key, NUM_DESCRIPTIONS[is_seen]),
        examples=tuple(fitting),
    )


def derived(key: str) -> list[BehaviorRecord]:
    """One value of a criterion against the rest, for each value: more to tell apart by words."""
    whole, criterion = record(key, "seen"), criteria()[key]
    return [
        BehaviorRecord(
            task=f"{key}={value}",
            split="derived",
            descriptions=tuple(
                template.format(saying, value=value)
                for template in ONE_VALUE
                for saying in criterion.sayings[0]
            ),
            examples=tuple((text, value if v == value else REST) for text, v in whole.examples),
        )
        for value in criterion.values
    ]


def some_of(keys: tuple[str, ...], count: int | None) -> tuple[str, ...]:
    """Some criteria, those of one family together; fewer ones are among more."""
    families = sorted({family_of(criteria()[key]) for key in keys})
    random.Random(0).shuffle(families)
    order = sorted(keys, key=lambda key: (families.index(family_of(criteria()[key])), key))
    return tuple(order[:count])


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--criteria", type=int, help="learn from so many only, for the curve")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    splits = {**make_splits()}
    splits["seen"] = some_of(splits["seen"], args.criteria)
    records = [record(key, split) for split, keys in splits.items() for key in keys]
    records += [one for key in splits["seen"] for one in derived(key)]
    watched = [key for key in criteria() if family_of(criteria()[key]) in WATCHED]
    records += [record(key, "watched") for key in watched]
    name = f"behaviors-{args.criteria}.jsonl" if args.criteria else "behaviors.jsonl"
    write_behaviors(args.out / name, records)
    print({split: len(keys) for split, keys in splits.items()})


if __name__ == "__main__":
    main()
