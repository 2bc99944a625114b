"""Reports of what was measured: JSON that says where, when, on which code and by which command."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_PLACES = ("--out", "--folder", "--plant")
"""Options whose values are folders of the machine that measured."""


def machine(folder: Path) -> dict[str, object]:
    """Where it was measured; no name of a host."""
    import torch

    return {
        "cores": os.cpu_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "block_bytes": os.statvfs(folder).f_bsize,
    }


def each_operation(
    names: Iterable[str],
    measure: Callable[[str, Path], Mapping[str, Any]],
    *,
    folder: Path | None = None,
) -> dict[str, Any]:
    """A report of one measure for each operation; sums its numbers, and is ok if none is wrong.

    Args:
        names: Operations.
        measure: (operation, an empty place) -> numbers, and under `wrong` what failed.
        folder: On the disk to measure.
    """
    began, results = time.perf_counter(), dict[str, Mapping[str, Any]]()
    with tempfile.TemporaryDirectory(dir=folder) as place:
        where = machine(Path(place))
        for name in names:
            results[name] = measure(name, Path(place) / name)
            print(name, results[name], flush=True)
    numbers = {n for found in results.values() for n, value in found.items() if type(value) is int}
    return {
        "ok": not any(found["wrong"] for found in results.values()),
        **{name: sum(found[name] for found in results.values()) for name in sorted(numbers)},
        "seconds": round(time.perf_counter() - began, 1),
        "operations": results,
        "machine": where,
    }


def finish(report: Mapping[str, Any], out: Path | None) -> int:
    """Stamp a report, print it, write it to `out`; the exit code."""
    text = json.dumps({**stamp(), **report}, indent=2)
    print(text)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n")
    return 0 if report["ok"] else 1


def stamp() -> dict[str, str]:
    """By which command, on which day (UTC), on which code."""
    today = datetime.now(UTC).date().isoformat()
    return {"command": command(sys.argv), "date": today, "code": code()}


def command(arguments: Sequence[str]) -> str:
    """The command that runs, without places of this machine."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    words = ["python", "-m", spec.name if spec else Path(arguments[0]).stem]
    rest = list(arguments[1:])
    while rest:
        word = rest.pop(0)
        if word.partition("=")[0] not in _PLACES:
            words.append(word)
        elif "=" not in word and rest:
            rest.pop(0)
    return shlex.join(words)


def code() -> str:
    """The commit that was measured, marked where the library differs from it."""
    hashed = _git("rev-parse", "--short=10", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no", "lora_gen", "training", "app")
    return f"{hashed} with changes" if changed else hashed or "unknown"


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()
