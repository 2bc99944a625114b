"""One measurement in a fresh process: seconds, processor seconds and peak memory."""

from __future__ import annotations

import importlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

_ROOT = Path(__file__).parents[2]


def measured(function: str, **arguments: Any) -> dict[str, Any]:
    """What the named function returns, after a process of its own has run and measured it.

    Args:
        function: `module:name` of a function that sets up its work and returns the work, a
            function without arguments that returns facts.
        arguments: JSON-able, for the function.

    Returns:
        The facts, with `seconds`, `cpu_seconds`, `setup_mib` (memory before the work) and
        `peak_mib` (the most that the work had).

    Raises:
        RuntimeError: The process failed; the message is its last line.
    """
    done = subprocess.run(
        [sys.executable, "-m", "recipes.benchmarks.measure", function, json.dumps(arguments)],
        capture_output=True,
        text=True,
        cwd=_ROOT,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no message"])[-1])
    facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return facts


def run(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Do the work once and measure it in this process."""
    is_gpu = torch.cuda.is_available()
    before = _resident_mib()
    if is_gpu:
        torch.cuda.synchronize()
    _forget_peak()
    cpu, wall = time.process_time(), time.perf_counter()
    facts = work()
    if is_gpu:
        torch.cuda.synchronize()
        facts["gpu_peak_mib"] = round(torch.cuda.max_memory_allocated() / 2**20)
    return {
        "seconds": round(time.perf_counter() - wall, 3),
        "cpu_seconds": round(time.process_time() - cpu, 3),
        "setup_mib": round(before),
        "peak_mib": round(_peak_mib()),
        **facts,
    }


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def _forget_peak() -> None:
    """Set the kernel's high-water mark back to the present, so that set-up does not count."""
    Path("/proc/self/clear_refs").write_text("5")


def _peak_mib() -> float:
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(line for line in status if line.startswith("VmHWM"))
    return int(peak.split()[1]) / 2**10


def main() -> None:
    """Run the function that the command line names."""
    module, name = sys.argv[1].split(":")
    work = getattr(importlib.import_module(module), name)(**json.loads(sys.argv[2]))
    print(json.dumps(run(work)))


if __name__ == "__main__":
    main()
