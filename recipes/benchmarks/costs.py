"""Suites about what quality, processes and compiling cost: rows and facts of a report each."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from lora_gen.evaluation.search_speed import encode_speed, search_speed
from lora_gen.evaluation.statistics import mean_interval, paired_difference_interval
from recipes.benchmarks.measure import measured
from recipes.benchmarks.training_speed import throughput

_HERE = "recipes.benchmarks"
_REFERENCE_STEPS = 4
_TRAINED = 4
"""Tasks whose LoRA is trained for its seconds."""

Rows = tuple[list[dict[str, Any]], dict[str, Any]]


def steps_rows(steps: Sequence[int], tasks: int, *, device: str = "cpu") -> Rows:
    """What each number of steps costs beside a one-pass hypernetwork, and the accuracy it keeps.

    Accuracy is of the shipped generator on tasks it never saw; the seconds beside it are of an
    adapter of 4.4 M values, for which the hypernetwork has its published widths.
    """
    found = measured(f"{_HERE}.steps:by_steps", steps=list(steps), tasks=tasks, trained=_TRAINED)
    same = {"base": "qwen2.5-0.5b", "rank": 8, "device": device}
    key = "cpu_seconds" if device == "cpu" else "seconds"
    one_pass = measured(f"{_HERE}.peers:t2l", **same)[key]
    scores = {int(count): each["scores"] for count, each in found["found"].items()}
    rows = []
    for count in steps:
        large = measured(f"{_HERE}.ours:generate", steps=count, workers=1, **same)[key]
        less = paired_difference_interval(scores[count], scores[_REFERENCE_STEPS])
        rows.append(
            {
                "steps": count,
                "exact match": _words(mean_interval(scores[count])),
                f"less {_REFERENCE_STEPS} steps": _words(less),
                f"{key}, tiny_lm": found["found"][str(count)]["cpu_seconds"],
                f"{key}, 4.4 M values": large,
                "times a one-pass hypernetwork": round(large / one_pass, 2),
            }
        )
    trained = found["training_cpu_seconds"]
    own = found["found"][str(_REFERENCE_STEPS)]["cpu_seconds"]
    facts = {
        "tasks": found["tasks"],
        f"one-pass hypernetwork, {key}": one_pass,
        "training one LoRA of tiny_lm, cpu_seconds": trained,
        f"training over sampling in {_REFERENCE_STEPS} steps": round(trained / own, 1),
    }
    return rows, facts


def search_rows(ranks: Sequence[int], vectors: Sequence[int]) -> list[dict[str, Any]]:
    """Features of an 8B adapter at each rank, and a table of so many vectors, on one thread."""
    rows = []
    for rank in ranks:
        found = measured(f"{_HERE}.costs:encoding", rank=rank)
        what = f"encode an 8B adapter, rank {rank}, {found['file_mb']:.0f} MB"
        rows.append((what, found["core_seconds"], "core-seconds"))
    for count in vectors:
        found = measured(f"{_HERE}.costs:searching", rows=count)
        for what, key, unit in (
            ("one more, durable (p95)", "add_one_p95_ms", "ms"),
            ("search (p95)", "search_p95_ms", "ms"),
            ("open and search first", "open_s", "s"),
        ):
            rows.append((f"{count:,} adapters: {what}", found[key], unit))
    return [{"what": what, "takes": f"{takes:.3g} {unit}"} for what, takes, unit in rows]


def encoding(rank: int) -> Callable[[], dict[str, Any]]:
    """The work of the features of one adapter."""
    torch.set_num_threads(1)
    return lambda: dict(encode_speed(rank))


def searching(rows: int) -> Callable[[], dict[str, Any]]:
    """The work of one table of vectors, in a folder that is deleted."""

    def work() -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            return search_speed(rows, Path(folder))

    return work


def training_rows(recipe: str, steps: int) -> Rows:
    """Training tokens a second of one and of two processes, one thread each."""
    one, two = rows = [throughput(recipe, count, steps) for count in (1, 2)]
    facts = {
        "recipe": recipe,
        "1 to 2 processes, by the clock": round(two["tokens_a_second"] / one["tokens_a_second"], 2),
        "1 to 2 processes, with a core each": round(
            two["tokens_a_core_second"] / one["tokens_a_core_second"], 2
        ),
    }
    return rows, facts


def compile_rows(steps: int, *, device: str = "cpu") -> Rows:
    """Seconds of one window with and without `torch.compile`."""
    found = measured(f"{_HERE}.compiled:compiled", steps=steps, repeats=3, device=device)
    keys = ("as_is", "compiled", "ratio", "compile_seconds", "largest_difference")
    return [{"steps": steps, **{key: found[key] for key in keys}}], {}


def _words(interval: Any) -> str:
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
