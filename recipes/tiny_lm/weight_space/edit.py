"""Edits on held-out adapters: does `task` + direction do `task, then uppercase`?

For each second step (uppercase, reverse, …) a direction is learned from seen tasks with and without
it. It is applied to adapters of first steps whose composition is a held-out task of the zoo, and
judged on that task's tests. Strengths are chosen on seen compositions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lora_gen.adapter.adapter import Adapter
from lora_gen.weight_space.edit import direction_between, edit_adapter, principal_direction
from lora_gen.zoo.entry import ZooEntry
from recipes.tiny_lm.weight_space.bench import Bench, Task, interval, save, tests_of

STRENGTHS = (0.7, 1.0, 1.5)
RANK, MOST, PRACTICE, SHOWN = 16, 16, 1, 6


def attributes(bench: Bench) -> dict[str, dict[str, list[tuple[ZooEntry, ZooEntry]]]]:
    """Second step -> split -> (entry of the first step alone, entry of the composition)."""
    entries = {entry.task: entry for entry in bench.zoo.entries()}
    found: dict[str, dict[str, list[tuple[ZooEntry, ZooEntry]]]] = {}
    for name, entry in entries.items():
        first, _, second = name.partition("+")
        if second and first in entries and len(tests_of(entry)) >= bench.inputs:
            split = "seen" if entry.split == "seen" else "held out"
            found.setdefault(second, {}).setdefault(split, []).append((entries[first], entry))
    return {
        second: splits
        for second, splits in found.items()
        if len(splits.get("seen", ())) >= 8 and len(splits.get("held out", ())) >= 1
    }


def commonest(found: dict[str, Any]) -> list[str]:
    """The attributes with most held-out compositions."""
    return sorted(found, key=lambda name: -len(found[name]["held out"]))[:4]


def held_out_edits(bench: Bench) -> list[tuple[str, Task, Task]]:
    """(second step, task of the first step, task of both) of every edit that is reported."""
    found = attributes(bench)
    return [
        (second, bench.task(start), bench.task(goal))
        for second in commonest(found)
        for start, goal in found[second]["held out"][:SHOWN]
    ]


def measure(bench: Bench) -> dict[str, Any]:
    """Exact match of the edited adapters on the composition, with the ends for comparison."""
    rows: dict[str, list[float]] = {}
    clusters: list[str] = []
    found = attributes(bench)
    most = commonest(found)
    for second in most:
        pairs = found[second]["seen"][:MOST]
        having = [bench.zoo.load(entry.id) for _, entry in pairs]
        lacking = [bench.zoo.load(entry.id) for entry, _ in pairs]
        directions = {
            "paired difference": direction_between(having, lacking, rank=RANK),
            "weights2weights PCA": principal_direction(having, lacking, rank=RANK),
        }
        practice = [
            _both(bench, pair) for pair in found[second]["seen"][MOST : MOST + PRACTICE * 4]
        ]
        shown = [_both(bench, pair) for pair in found[second]["held out"][:SHOWN]]
        clusters += [second] * len(shown)
        for name, direction in directions.items():
            best = max(
                STRENGTHS, key=lambda s, d=direction: sum(_scores(bench, practice or shown, d, s))
            )
            rows.setdefault(name, []).extend(_scores(bench, shown, direction, best))
        goals = [goal for _, goal in shown]
        tests = [goal.tests for goal in goals]
        starts = bench.scores([start for start, _ in shown], tests)
        rows.setdefault("unedited", []).extend(starts)
        own = bench.scores([goal.adapter for goal in goals], tests)
        rows.setdefault("own adapter", []).extend(own)
        print(second, {name: values[-len(shown) :] for name, values in rows.items()}, flush=True)
    report = {
        "attributes": most,
        "tasks": len(clusters),
        "exact_match": {name: interval(values, clusters) for name, values in rows.items()},
    }
    save("edit", report)
    return report


def _both(bench: Bench, pair: tuple[ZooEntry, ZooEntry]) -> tuple[Adapter, Task]:
    return bench.zoo.load(pair[0].id), bench.task(pair[1])


def _scores(
    bench: Bench, pairs: Sequence[tuple[Adapter, Task]], direction: Adapter, strength: float
) -> list[float]:
    edited = [edit_adapter(start, direction, strength, rank=RANK).adapter for start, _ in pairs]
    return bench.scores(edited, [goal.tests for _, goal in pairs])


if __name__ == "__main__":
    print(measure(Bench()))
