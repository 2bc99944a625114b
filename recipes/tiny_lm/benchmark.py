"""How long a newcomer waits: whole `lora-gen generate --try` processes, and the sampler alone.

python -m recipes.tiny_lm.benchmark

Writes `reports/speed.json`; the first run warms the disk cache and is not counted.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch

TEXT = "extract the domain of an email address, then write it in uppercase"
OUT = Path("lora_gen/assets/tiny_lm/reports/speed.json")
RUNS = 5


def whole_process() -> float:
    """Seconds of one process, imports included."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "lora_gen.cli", "generate", TEXT, "--try", "a@b.org"]
        started = time.perf_counter()
        subprocess.run(
            [*command, "--out", f"{folder}/adapter"],
            check=True,
            stdout=subprocess.DEVNULL,
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
        )
        return time.perf_counter() - started


def sampler() -> float:
    """Seconds of one call of the pipeline that is already loaded, text encoding included."""
    from lora_gen import LoraGenPipeline
    from lora_gen.assets import default_generator

    pipe = LoraGenPipeline.from_pretrained(default_generator())
    pipe(TEXT)
    times = []
    for _ in range(RUNS):
        started = time.perf_counter()
        pipe(TEXT)
        times.append(time.perf_counter() - started)
    return median(times)


def main() -> None:
    """Measure and write."""
    whole_process()
    times = [whole_process() for _ in range(RUNS)]
    record = {
        "generate_seconds": {"median": round(median(times), 2), "max": round(max(times), 2)},
        "sampler_seconds": round(sampler(), 3),
        "runs": RUNS,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
    }
    OUT.write_text(json.dumps(record, indent=1) + "\n")
    print(record)


if __name__ == "__main__":
    main()
