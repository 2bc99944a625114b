"""Time how long a warm generator takes from a sentence to a folder.

python -m recipes.minilm_lenses.speed --out build/minilm_lenses/report
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from lora_gen.adapter.io import save_adapter
from lora_gen.assets import default_generator
from lora_gen.files import atomic_write_json
from lora_gen.pipeline import LoraGenPipeline

SENTENCES = (
    "by how urgent the message is",
    "group customer messages by who is blamed",
    "by tense (past, present or future)",
    "what the animal eats",
    "similarity should depend on nothing but the speaker's mood",
)
WANTED = 3.0
"""Seconds, on two cores."""


def seconds_of(pipe: LoraGenPipeline, sentence: str, folder: Path) -> dict[str, float]:
    """Wall-clock and processor seconds of one lens, written to a folder."""
    wall, processor = time.perf_counter(), time.process_time()
    made: Any = pipe(sentence, generator=torch.Generator().manual_seed(0))
    save_adapter(made.adapters[0], folder, provenance=made.provenance[0])
    return {"wall": time.perf_counter() - wall, "processor": time.process_time() - processor}


def main() -> None:
    """Print the median and write speed.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--generator", type=Path, default=default_generator("minilm"))
    args = parser.parse_args()
    pipe = LoraGenPipeline.from_pretrained(args.generator)
    with tempfile.TemporaryDirectory() as place:
        rows = [
            seconds_of(pipe, sentence, Path(place) / str(i))
            for i, sentence in enumerate((SENTENCES[0], *SENTENCES))
        ]
    median = {kind: statistics.median(row[kind] for row in rows[1:]) for kind in rows[0]}
    report = {"cold": rows[0], "warm": median, "wanted": WANTED, "cores": os.cpu_count()}
    atomic_write_json(args.out / "speed.json", report)
    print(
        f"Warm: {median['wall']:.2f} s by the clock, {median['processor']:.2f} s of a core "
        f"(wanted: {WANTED:g} s); the first: {rows[0]['wall']:.2f} s."
    )


if __name__ == "__main__":
    main()
