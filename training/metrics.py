"""Numbers of a run: gathered between log lines, then written to `metrics.jsonl`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from torch import Tensor

from lora_gen.files import atomic_write_text


class Meter:
    """Values since the last log line; tensors are read only when the line is due."""

    def __init__(self) -> None:
        """Start empty."""
        self._values: dict[str, list[float | Tensor]] = {}

    def add(self, values: Mapping[str, float | Tensor]) -> None:
        """Take one value of each name."""
        for name, value in values.items():
            kept = value.detach() if isinstance(value, Tensor) else value
            self._values.setdefault(name, []).append(kept)

    def state(self) -> dict[str, list[float]]:
        """All values as numbers, in order; exact in JSON."""
        return {name: [float(v) for v in values] for name, values in self._values.items()}

    def restore(self, state: Mapping[str, Iterable[float]]) -> None:
        """Put back what `state` returned."""
        self._values = {name: list(values) for name, values in state.items()}

    def clear(self) -> None:
        """Forget everything."""
        self._values = {}


def mean_of(states: Iterable[Mapping[str, Iterable[float]]]) -> dict[str, float]:
    """Mean of every name over the meters of all processes."""
    merged: dict[str, list[float]] = {}
    for state in states:
        for name, values in state.items():
            merged.setdefault(name, []).extend(values)
    return {name: math.fsum(values) / len(values) for name, values in merged.items() if values}


class MetricsLog:
    """One JSON object a line, in the order of the steps."""

    def __init__(self, path: Path, *, step: int) -> None:
        """Open the log and drop lines after `step`: a resumed run writes those again.

        Args:
            path: The log file; created when missing.
            step: Finished optimizer steps.
        """
        kept = [line for line in _lines(path) if line["step"] <= step]
        atomic_write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
        self._file = path.open("a", encoding="utf-8")

    def write(self, values: Mapping[str, float]) -> None:
        """Append one line; the operating system has it when this returns."""
        self._file.write(json.dumps(dict(values)) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Every whole line of a `metrics.jsonl`."""
    return list(_lines(path))


def _lines(path: Path) -> Iterator[dict[str, float]]:
    if not path.exists():
        return
    for text in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if text.endswith("\n"):  # a killed process may leave half a line
            yield json.loads(text)
