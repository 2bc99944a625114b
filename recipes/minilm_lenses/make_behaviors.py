"""Write the behavior file: criteria with their descriptions and labeled sentences.

    python -m recipes.minilm_lenses.make_behaviors --out build/minilm_lenses

Training reads `seen`; the other splits are for evaluation only. Sentences of unseen criteria are of
held-out vocabulary.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lora_gen.conditioning.condition import MAX_BYTES
from recipes.minilm_lenses.train_lenses import examples_of, tests_of
from recipes.minilm_lenses.world.criteria import descriptions, make_splits
from training.behavior_data import BehaviorRecord, write_behaviors

NUM_DESCRIPTIONS = {True: 24, False: 8}


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


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    splits = make_splits()
    records = [record(key, split) for split, keys in splits.items() for key in keys]
    write_behaviors(out / "behaviors.jsonl", records)
    print({split: len(keys) for split, keys in splits.items()})


if __name__ == "__main__":
    main()
