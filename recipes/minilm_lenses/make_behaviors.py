"""Write the behavior file: criteria with their descriptions and labeled sentences.

    python -m recipes.minilm_lenses.make_behaviors --out build/minilm_lenses

Training reads `seen`, `derived`, one value of a seen criterion against the rest, and `named`, seen
criteria and parts of them whose values the request names. The others are for evaluation only, and
`watched`, a part of `unseen_primitive`, is what training may show, with and without its values.
Sentences of unseen criteria are of held-out vocabulary.
"""

from __future__ import annotations

import argparse
import random
from dataclasses import replace
from pathlib import Path

from lora_gen.conditioning.condition import MAX_BYTES
from recipes.minilm_lenses.train_lenses import examples_of, tests_of
from recipes.minilm_lenses.world.criteria import (
    WATCHED,
    descriptions,
    family_of,
    listed,
    make_splits,
    naming,
)
from recipes.minilm_lenses.world.tables import criteria
from training.behavior_data import BehaviorRecord, write_behaviors

NUM_DESCRIPTIONS = {True: 24, False: 8}
NUM_NAMED, PARTS_OF_EACH, FEWEST = 12, 5, 24
"""Requests of each record that name values, parts of each criterion, sentences of a part."""
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


def named(key: str) -> list[BehaviorRecord]:
    """A criterion, parts of its values and values taken together: requests that name them.

    What a lens has to do then stands in the words themselves, for any criterion.
    """
    whole, values = record(key, "seen"), criteria()[key].values
    rng, parts = random.Random(f"named/{key}"), [[(value,) for value in values]]
    for _ in range(PARTS_OF_EACH if len(values) > 2 else 0):
        some = rng.sample(values, rng.randint(2, len(values)))
        ends = sorted(rng.sample(range(1, len(some)), rng.randint(1, len(some) - 1)))
        places = zip([0, *ends], [*ends, len(some)], strict=True)
        parts.append([tuple(some[start:stop]) for start, stop in places])
    found = {}
    for part in parts:
        groups = {
            value: listed(group) if group[1:] else group[0] for group in part for value in group
        }
        examples = tuple((text, groups[value]) for text, value in whole.examples if value in groups)
        wanted = list(dict.fromkeys(groups.values()))
        task = f"{key}: {' | '.join(wanted)}"
        if len(examples) >= FEWEST:
            found[task] = BehaviorRecord(
                task=task if part is not parts[0] else key,
                split="named",
                descriptions=naming(key, wanted, NUM_NAMED),
                examples=examples,
            )
    return list(found.values())


def watched(key: str) -> list[BehaviorRecord]:
    """An unseen criterion, without and with its values in the request."""
    plain = record(key, "watched")
    words = naming(key, criteria()[key].values, 1)
    return [plain, replace(plain, task=f"{key}, values named", descriptions=words)]


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
    records += [one for key in splits["seen"] for one in named(key)]
    some = [key for key in criteria() if family_of(criteria()[key]) in WATCHED]
    records += [one for key in some for one in watched(key)]
    name = f"behaviors-{args.criteria}.jsonl" if args.criteria else "behaviors.jsonl"
    write_behaviors(args.out / name, records)
    print({split: len(keys) for split, keys in splits.items()})


if __name__ == "__main__":
    main()
