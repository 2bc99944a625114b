"""Write the behavior file, its pictures and the split file of the world.

python -m recipes.tiny_sd.make_behaviors --base build/tiny_sd/base/final --out build/tiny_sd

A few minutes. Training reads `seen` and `practice`; the other splits are for evaluation only.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from lora_gen.evaluation.pictures import load_pipeline
from lora_gen.files import atomic_write_bytes, atomic_write_json
from lora_gen.safetensors_header import serialize_tensors
from recipes.tiny_sd.train_adapters import TRAIN_SEED, encode_pictures, scenes_of
from recipes.tiny_sd.world.styles import make_splits, practice_styles, styles_by_name
from training.behavior_data import BehaviorRecord, write_behaviors

NUM_PICTURES = 24
"""Pictures of a style; practice styles are many, so each needs few."""


def main() -> None:
    """Write all files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--practice", type=int, default=2000, help="practice styles at most")
    args = parser.parse_args()
    torch.set_num_threads(1)
    out, pipe = Path(args.out), load_pipeline(args.base)
    splits = make_splits()
    splits["practice"] = [style.name for style in practice_styles()[: args.practice]]
    styles = styles_by_name(practice=True)
    records, latents = [], {}
    for split, names in splits.items():
        for name in names:
            scenes = scenes_of(name, NUM_PICTURES, TRAIN_SEED)
            latents[name] = encode_pictures(pipe, styles[name], scenes).half()
            records.append(
                BehaviorRecord(
                    task=name,
                    split=split,
                    descriptions=styles[name].descriptions(24 if split == "seen" else 12),
                    examples=tuple((s.caption, str(row)) for row, s in enumerate(scenes)),
                )
            )
    out.mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(out / "pictures.safetensors", serialize_tensors(latents, {"format": "pt"}))
    atomic_write_json(out / "splits.json", {"seed": 0, "splits": splits})
    write_behaviors(out / "behaviors.jsonl", records)
    print({split: len(names) for split, names in splits.items()})


if __name__ == "__main__":
    main()
