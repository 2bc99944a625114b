"""Put what was built under `lora_gen/assets/tiny_sd`: base, zoo sample, generator, reports.

python -m recipes.tiny_sd.ship --build build/tiny_sd --assets lora_gen/assets/tiny_sd
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import shutil
from pathlib import Path

from diffusers import StableDiffusionPipeline

from lora_gen.files import MANIFEST_NAME, atomic_write_json, sha256_file
from lora_gen.zoo.store import Zoo
from recipes.tiny_lm.ship import PACKAGES, ship_generator, ship_zoo

SHIPPED = {"seen": 24, "unseen_composition": 8, "unseen_argument": 4, "unseen_primitive": 4}
SHOWN = ("generated.png", "map.png")
PARTS = ("base", "zoo", "generator", "reports", "manifest")


def ship_base(source: Path, target: Path) -> None:
    """The pipeline as trained, without the training's own manifest."""
    if target.exists():
        shutil.rmtree(target)
    StableDiffusionPipeline.from_pretrained(source).save_pretrained(target)


def training(build: Path) -> dict[str, object]:
    """What the generator's last evaluation said, beside the same share for the zoo's adapters."""
    rows = [json.loads(line) for line in (build / "generator" / "metrics.jsonl").open()]
    last = [row for row in rows if "eval/gain_validation" in row][-1]
    with Zoo.open(build / "zoo", read_only=True) as zoo:
        gains = {split: [e.accuracy or 0.0 for e in zoo.entries(split=split)] for split in SHIPPED}
    return {
        "steps": last["step"],
        "gain_seen": last["eval/gain_seen"],
        "gain_validation": last["eval/gain_validation"],
        "zoo_gain": {split: sum(found) / len(found) for split, found in gains.items()},
    }


def manifest(assets: Path) -> dict[str, object]:
    """Versions, hashes and the metrics that the reports hold."""
    files = {
        str(path.relative_to(assets)): sha256_file(path)
        for part in ("base", "generator", "reports")
        for path in sorted((assets / part).rglob("*"))
        if path.is_file() and path.name != MANIFEST_NAME
    }
    report = assets / "reports" / "report.json"
    metrics = json.loads(report.read_text())["summary"] if report.is_file() else {}
    return {
        "schema": 1,
        "seed": 0,
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "metrics": {"evaluation": metrics},
        "files": files,
    }


def main() -> None:
    """Ship what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--build", required=True)
    parser.add_argument("--assets", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS)
    args = parser.parse_args()
    build, assets = Path(args.build), Path(args.assets)
    if "base" in args.parts:
        ship_base(build / "base" / "final", assets / "base")
    if "zoo" in args.parts:
        print("adapters:", ship_zoo(build / "zoo", assets / "zoo", args.seed, shipped=SHIPPED))
    if "generator" in args.parts:
        ship_generator(build / "generator" / "final", assets / "generator")
    if "reports" in args.parts:
        pictures = shutil.ignore_patterns("*.png")  # those that are shown lie in docs/styles
        shutil.copytree(build / "reports", assets / "reports", dirs_exist_ok=True, ignore=pictures)
        atomic_write_json(assets / "reports" / "training.json", training(build))
        for name in SHOWN:
            shutil.copy(build / "reports" / name, Path("docs/styles") / name)
    if "manifest" in args.parts:
        atomic_write_json(assets / "manifest.json", manifest(assets))


if __name__ == "__main__":
    main()
