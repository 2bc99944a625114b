"""Measure what was trained beside what needs no training, and write docs/baselines.md."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lora_gen.assets import default_generator
from lora_gen.evaluation.baselines.registry import (
    ALL,
    MULTI_TASK,
    build_baselines,
    learned_baseline,
)
from lora_gen.evaluation.bench import open_bench, sources
from lora_gen.evaluation.report import BASE, GENERATED, ORACLE, write_report
from lora_gen.evaluation.run import FEW_SHOTS, costs_of, measure
from lora_gen.evaluation.tasks import evaluation_tasks
from recipes.tiny_lm.baseline_runs import RANK, RUNS, final, training_of
from recipes.tiny_lm.evidence_tables import cell

SPLITS = ("unseen_composition", "seen")
UNTRAINED = tuple(name for name in ALL if name != MULTI_TASK)
INPUTS = 16


def measure_all(build: Path, *, tasks: int, seeds: int) -> dict[str, Any]:
    """Scores of the base, the untrained baselines, every trained run, the generator, the oracle.

    Args:
        build: Zoo and trained runs.
        tasks: Of each split.
        seeds: Samples of the shipped generator for each task.
    """
    trained = [name for name in RUNS if final(name, build).is_dir()]
    with open_bench(build / "zoo", default_generator(), "tiny_lm", inputs=INPUTS) as bench:
        found = sources(bench)
        ways = build_baselines(UNTRAINED, found) + [
            learned_baseline(
                final(name, build),
                found,
                name=RUNS[name].label,
                rank=RANK,
                steps=RUNS[name].sampler_steps,
            )
            for name in trained
        ]
        asked = evaluation_tasks(bench.zoo, limit=tasks)
        runs = {
            split: measure(bench, asked[split], ways, shots=FEW_SHOTS, seeds=seeds, label=split)
            for split in SPLITS
        }
        raw = {
            "base": "tiny_lm",
            "generator": "shipped",
            "seeds": seeds,
            "inputs": INPUTS,
            "tasks": {split: [task.name for task in asked[split]] for split in SPLITS},
            "scores": {split: scores for split, (scores, _) in runs.items()},
            "costs": costs_of(bench, ways, [seconds for _, seconds in runs.values()]),
            "training": {RUNS[name].label: training_of(name, build) for name in trained},
        }
    return write_report(raw, build / "baselines" / "report")


def table(report: Mapping[str, Any]) -> str:
    """Methods down, those that were trained here first, then by what they reach."""
    summary, costs, training = (report[key] for key in ("summary", "costs", "training"))
    shares = {split: summary[split]["share_of_oracle_gain"] for split in SPLITS}
    heads = [f"{split.replace('_', ' ')} (n={summary[split]['tasks']})" for split in SPLITS]
    rows = [
        ["method", "learns from", *heads, "values kept", "ms an adapter", "training, CPU minutes"]
    ]

    def reached(name: str) -> float:
        return float(shares[SPLITS[0]][name]["value"])

    names = [name for name in shares[SPLITS[0]] if name not in (BASE, ORACLE)]
    for name in sorted(names, key=lambda n: (n not in training, n != GENERATED, -reached(n))):
        cost, run = costs.get(name), training.get(name)
        rows.append(
            [
                "**ours, as shipped**" if name == GENERATED else name,
                str(run["learns"]) if run else "\u2013",
                *(cell(shares[split].get(name)) for split in SPLITS),
                f"{cost['parameters']:,}" if cost else "\u2013",
                f"{1000 * cost['seconds']:.0f}" if cost else "\u2013",
                f"{run['cpu_seconds'] / 60:.1f}" if run else "\u2013",
            ]
        )
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"{text}\n\n{_note(report)}"


def _note(report: Mapping[str, Any]) -> str:
    budgets = sorted({run["steps"] for run in report["training"].values()})
    missing = [run.label for run in RUNS.values() if run.label not in report["training"]]
    steps = " or ".join(map(str, budgets))
    note = (
        f"Share of the oracle's gain from the description alone, {report['inputs']} test inputs a "
        "task, 95% bootstrap intervals over tasks. Trained here: "
        f"{steps} steps of 12 tasks, one seed, one CPU core. The shipped generator had 4,000 steps "
        f"of 24 and is the mean of {report['seeds']} samples."
    )
    return f"{note} Not trained yet: {', '.join(missing)}." if missing else note
