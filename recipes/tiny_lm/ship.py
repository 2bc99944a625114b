"""Put what was built under `lora_gen/assets/tiny_lm`: zoo sample, generator, reports, manifest.

python -m recipes.tiny_lm.ship --build build/tiny_lm --assets lora_gen/assets/tiny_lm
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import random
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch

from lora_gen.files import atomic_write_json, sha256_file
from lora_gen.pipeline import LoraGenPipeline
from lora_gen.zoo.store import Zoo

SHIPPED = {"seen": 180, "unseen_composition": 60, "unseen_argument": 40, "unseen_primitive": 40}
PARTS = ("zoo", "generator", "manifest")
PACKAGES = ("torch", "transformers", "peft", "diffusers", "accelerate", "safetensors")


def ship_zoo(source: Path, target: Path, seed: int, *, shipped: Mapping[str, int] = SHIPPED) -> int:
    """A random sample of each split; returns how many adapters."""
    if target.exists():
        shutil.rmtree(target)
    rng = random.Random(seed)
    with Zoo.open(source, read_only=True) as whole, Zoo.open(target, create=True) as sample:
        for split, count in shipped.items():
            entries = sorted(whole.entries(split=split), key=lambda entry: entry.task)
            chosen = rng.sample(entries, min(count, len(entries)))
            sample.add_many([(whole.load(entry.id), entry.info()) for entry in chosen])
        total = len(sample)
        sample.checkpoint()
    return total


def ship_generator(source: Path, target: Path) -> None:
    """The generator in float16: half the bytes, and float32 again once loaded."""
    pipe = LoraGenPipeline.from_pretrained(source)
    pipe.denoiser.to(torch.float16)
    if target.exists():
        shutil.rmtree(target)
    pipe.save_pretrained(target)


def manifest(assets: Path, seed: int) -> dict[str, object]:
    """Versions, hashes and the metrics that the reports hold."""
    files = {
        str(path.relative_to(assets)): sha256_file(path)
        for part in ("base", "generator", "reports")
        for path in sorted((assets / part).rglob("*"))
        if path.is_file()
    }
    report = json.loads((assets / "reports" / "report.json").read_text())
    return {
        "schema": 1,
        "seed": seed,
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "metrics": {
            "base": json.loads((assets / "reports" / "base.json").read_text()),
            "evaluation": report["summary"],
        },
        "files": files,
    }


def main() -> None:
    """Ship everything."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--build", required=True)
    parser.add_argument("--assets", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS)
    args = parser.parse_args()
    build, assets = Path(args.build), Path(args.assets)
    if "zoo" in args.parts:
        print("adapters:", ship_zoo(build / "zoo", assets / "zoo", args.seed))
    if "generator" in args.parts:
        ship_generator(build / "generator" / "final", assets / "generator")
    if "manifest" in args.parts:
        shutil.copy(build / "splits.json", assets / "reports" / "splits.json")
        atomic_write_json(assets / "manifest.json", manifest(assets, args.seed))


if __name__ == "__main__":
    main()
