"""Build the whole world from nothing; each step is timed, and skipped if its output is there.

python -m recipes.tiny_lm.build

Steps can be run alone: `--only zoo generator`. Interrupt and start again: the zoo and the generator
go on where they were.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from lora_gen.files import atomic_write_json

BUILD, ASSETS = "build/tiny_lm", "lora_gen/assets/tiny_lm"
BASE, REPORTS = f"{ASSETS}/base", f"{ASSETS}/reports"
STEPS: dict[str, tuple[str, str]] = {
    "base": (
        f"{BASE}/model.safetensors",
        f"recipes.tiny_lm.pretrain --out {BASE} --steps 4000",
    ),
    "measure-base": (
        f"{REPORTS}/base.json",
        f"recipes.tiny_lm.measure_base --base {BASE} --out {REPORTS}/base.json",
    ),
    "behaviors": (f"{BUILD}/behaviors.jsonl", f"recipes.tiny_lm.make_behaviors --out {BUILD}"),
    "zoo": ("", f"recipes.tiny_lm.train_adapters --base {BASE} --out {BUILD}/zoo"),
    "generator": (
        "",
        "torch.distributed.run --nproc_per_node 2 -m training recipes/tiny_lm/generator.yaml",
    ),
    "evaluate": (
        f"{REPORTS}/report.json",
        f"lora_gen.cli evaluate --zoo {BUILD}/zoo --generator {BUILD}/generator/final"
        f" --out {REPORTS} --tasks 120 --overwrite",
    ),
    "conditions": (
        f"{REPORTS}/conditions.json",
        f"lora_gen.evaluation.conditions --zoo {BUILD}/zoo --generator {BUILD}/generator/final"
        f" --out {REPORTS}/conditions.json --tasks 48",
    ),
    "readings": (
        f"{REPORTS}/readings.json",
        f"lora_gen.evaluation.readings --zoo {BUILD}/zoo --generator {BUILD}/generator/final"
        f" --descriptions {BUILD}/ambiguous_tests.jsonl --out {REPORTS}/readings.json --limit 20",
    ),
    "ship": ("", f"recipes.tiny_lm.ship --build {BUILD} --assets {ASSETS} --parts zoo generator"),
    "benchmark": (f"{REPORTS}/speed.json", "recipes.tiny_lm.benchmark"),
    "manifest": ("", f"recipes.tiny_lm.ship --build {BUILD} --assets {ASSETS} --parts manifest"),
    "figures": ("", "recipes.tiny_lm.figures"),
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
    seconds = {}
    for name in only:
        done, command = STEPS[name]
        if done and Path(done).exists():
            print(f"{name}: {done} is there, skipped")
            continue
        started = time.time()
        subprocess.run([sys.executable, "-m", *command.split()], check=True, env=environment)
        seconds[name] = round(time.time() - started)
        print(f"{name}: {seconds[name]} s", flush=True)
    Path(BUILD).mkdir(parents=True, exist_ok=True)
    atomic_write_json(Path(BUILD) / "seconds.json", seconds)


if __name__ == "__main__":
    main()
