"""Build the whole world from nothing, one command, each step timed and skipped if its output is there.

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
PYTHON = [sys.executable, "-m"]
STEPS: dict[str, tuple[str, list[str]]] = {
    "base": (f"{ASSETS}/base/model.safetensors", [*PYTHON, "recipes.tiny_lm.pretrain", "--out", f"{ASSETS}/base", "--steps", "4000"]),
    "measure-base": (f"{ASSETS}/reports/base.json", [*PYTHON, "recipes.tiny_lm.measure_base", "--base", f"{ASSETS}/base", "--out", f"{ASSETS}/reports/base.json"]),
    "behaviors": (f"{BUILD}/behaviors.jsonl", [*PYTHON, "recipes.tiny_lm.make_behaviors", "--out", BUILD]),
    "zoo": ("", [*PYTHON, "recipes.tiny_lm.train_adapters", "--base", f"{ASSETS}/base", "--out", f"{BUILD}/zoo"]),
    "generator": ("", [*PYTHON, "torch.distributed.run", "--nproc_per_node", "2", "-m", "training", "recipes/tiny_lm/generator.yaml"]),
    "evaluate": (f"{ASSETS}/reports/report.json", [*PYTHON, "lora_gen.cli", "evaluate", "--zoo", f"{BUILD}/zoo", "--generator", f"{BUILD}/generator/final", "--out", f"{ASSETS}/reports", "--tasks", "120", "--overwrite"]),
    "ship": ("", [*PYTHON, "recipes.tiny_lm.ship", "--build", BUILD, "--assets", ASSETS]),
}  # fmt: skip
"""Step -> (file that says it is done, or '' for steps that know themselves; command)."""


def main() -> None:
    """Run the steps and record their times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
        subprocess.run(command, check=True, env=environment)
        seconds[name] = round(time.time() - started)
        print(f"{name}: {seconds[name]} s", flush=True)
    Path(BUILD).mkdir(parents=True, exist_ok=True)
    atomic_write_json(Path(BUILD) / "seconds.json", seconds)


if __name__ == "__main__":
    main()
