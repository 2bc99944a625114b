"""Build the whole world from nothing; each step is timed, and skipped if its output is there.

python -m recipes.tiny_sd.build

Steps can be run alone: `--only zoo generator`. Interrupt and start again: trainings and the zoo go
on where they were.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from lora_gen.files import atomic_write_json

BUILD, ASSETS = "build/tiny_sd", "lora_gen/assets/tiny_sd"
BASE = f"{ASSETS}/base"
SHIP = f"recipes.tiny_sd.ship --build {BUILD} --assets {ASSETS} --parts"
STEPS: dict[str, tuple[str, str]] = {
    "autoencoder": (
        f"{BUILD}/autoencoder/final/config.json",
        "training recipes/tiny_sd/autoencoder.yaml",
    ),
    "base": (f"{BUILD}/base/final/model_index.json", "training recipes/tiny_sd/base.yaml"),
    "ship-base": (f"{BASE}/model_index.json", f"{SHIP} base"),
    "reader": (f"{BUILD}/reader/final/config.json", "training recipes/tiny_sd/reader.yaml"),
    "zoo": ("", f"recipes.tiny_sd.train_adapters --base {BASE} --out {BUILD}/zoo"),
    "behaviors": (
        f"{BUILD}/behaviors.jsonl",
        f"recipes.tiny_sd.make_behaviors --base {BASE} --out {BUILD}",
    ),
    "generator": (
        f"{BUILD}/generator/final/model_index.json",
        "training recipes/tiny_sd/generator.yaml gradient_accumulation_steps=2",
    ),
    "strength": (
        f"{BUILD}/reports/strength.json",
        f"recipes.tiny_sd.calibrate --zoo {BUILD}/zoo --reader {BUILD}/reader/final"
        f" --generator {BUILD}/generator/final --out {BUILD}/reports",
    ),
    "evaluate": (
        f"{BUILD}/reports/report.json",
        f"recipes.tiny_sd.evaluate --zoo {BUILD}/zoo --reader {BUILD}/reader/final"
        f" --generator {BUILD}/generator/final --out {BUILD}/reports"
        " --styles 40 --pictures 8 --steps 12 --seeds 2 --workers 2",
    ),
    "sheets": (
        "",
        f"recipes.tiny_sd.sheets --zoo {BUILD}/zoo --out {BUILD}/reports"
        f" --generator {BUILD}/generator/final",
    ),
    "map": (
        f"{BUILD}/reports/map.png",
        f"recipes.tiny_sd.style_map --zoo {BUILD}/zoo --out {BUILD}/reports/map.png",
    ),
    "retrieval": (
        f"{BUILD}/reports/retrieval.json",
        f"recipes.tiny_sd.retrieval --zoo {BUILD}/zoo --out {BUILD}/reports"
        f" --generator {BUILD}/generator/final",
    ),
    "ship": ("", f"{SHIP} zoo generator reports manifest"),
    "figures": ("", "recipes.tiny_sd.figures"),
}
"""Step -> (file that says it is done, or '' for steps that know themselves; module, arguments)."""


def main() -> None:
    """Run the steps and record their times."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", choices=list(STEPS), default=list(STEPS))
    only = parser.parse_args().only
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "HF_HUB_OFFLINE": "1"}
    record = Path(BUILD) / "seconds.json"
    seconds = json.loads(record.read_text()) if record.is_file() else {}
    Path(BUILD).mkdir(parents=True, exist_ok=True)
    for name in only:
        done, command = STEPS[name]
        if done and Path(done).exists():
            print(f"{name}: {done} is there, skipped")
            continue
        started = time.time()
        subprocess.run([sys.executable, "-m", *command.split()], check=True, env=environment)
        seconds[name] = round(time.time() - started)
        atomic_write_json(record, seconds)
        print(f"{name}: {seconds[name]} s", flush=True)


if __name__ == "__main__":
    main()
