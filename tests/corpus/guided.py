"""`python -m tests.corpus.guided --seconds 60`: coverage-guided fuzzing of the three readers.

Needs the extra `fuzz` (atheris, which has wheels for Linux on x86-64 only). The report is one JSON
object; the exit code is 1 when a reader raised what it must not, hung, or ate memory. The input
that did it is kept in `--keep`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.crash.report import finish, machine

ROOT = Path(__file__).parents[2]
NAMES = ("header", "config", "archive")
SECONDS_AN_INPUT, MEGABYTES = 5, 1_024
TOKENS = (
    *('{"', '":', '"}', "[]", "{}", "null", "true", "1e999", "NaN", "-1", "0"),
    *("data_offsets", "dtype", "shape", "__metadata__", "F32", "BF16", "lora_A.weight"),
    *("peft_type", "LORA", "target_modules", "auto_mapping", "rank_pattern", "lora_alpha"),
    *("PK\\x01\\x02", "PK\\x03\\x04", "PK\\x05\\x06", "PK\\x06\\x06", "PK\\x06\\x07", "../"),
    *("adapter_config.json", "adapter_model.safetensors", "\\xff\\xff\\xff\\xff"),
)


def has_atheris() -> bool:
    return find_spec("atheris") is not None


def fuzz(name: str, *, seconds: int, seed: int, keep: Path) -> dict[str, Any]:
    """What came of fuzzing one reader in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        corpus, words = Path(folder) / "corpus", Path(folder) / "words"
        corpus.mkdir()
        _write_seeds(name, corpus)
        lines = [f'"{token}"' if "\\x" in token else json.dumps(token) for token in TOKENS]
        words.write_text("\n".join(lines) + "\n")
        keep.mkdir(parents=True, exist_ok=True)
        options = {
            "max_total_time": seconds,
            "seed": seed + 1,  # libFuzzer takes 0 for the time of day
            "timeout": SECONDS_AN_INPUT,
            "rss_limit_mb": MEGABYTES + _own_peak(),
            "max_len": 8_192,
            "dict": words,
            "artifact_prefix": f"{keep}/{name}-",
        }
        command = [sys.executable, "-m", "tests.corpus.guided_child", name]
        command += [*(f"-{key}={value}" for key, value in options.items()), str(corpus)]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    runs = re.search(r"Done (\d+) runs", done.stderr)
    reached = re.findall(r"cov: (\d+)", done.stderr)
    return {
        "runs": int(runs[1]) if runs else 0,
        "edges_at_start": int(reached[0]) if reached else 0,
        "edges": int(reached[-1]) if reached else 0,
        "failed": done.returncode != 0,
        "said": (done.stdout + done.stderr)[-3000:] if done.returncode else "",
    }


def _own_peak() -> int:
    """Megabytes that this process had at most: a child's peak begins there, before it runs."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1_024


def _write_seeds(name: str, corpus: Path) -> None:
    from tests.corpus.targets import SEEDS

    for number, data in enumerate(SEEDS[name]):
        (corpus / str(number)).write_bytes(data)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("targets", nargs="*", default=NAMES, help="header, config, archive")
    parser.add_argument("--seconds", type=int, default=60, help="for each reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=ROOT / "build" / "fuzz")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    found = {
        name: fuzz(name, seconds=options.seconds, seed=options.seed, keep=options.keep.resolve())
        for name in options.targets
    }
    report = {
        "ok": not any(one["failed"] for one in found.values()),
        "seconds_each": options.seconds,
        "readers": found,
        "machine": {**machine(ROOT), "atheris": version("atheris")},
    }
    return finish(report, options.out)


if __name__ == "__main__":
    sys.exit(main())
