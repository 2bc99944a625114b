"""A generator at other settings than its own: ranks, target sets, guidance and sampler steps.

    python -m lora_gen.evaluation.settings --zoo ZOO --out settings.json
        [--generator FOLDER] [--tasks 48] [--splits unseen_composition seen]

Every setting answers the same texts from the same seeds, one adapter a task.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from tqdm import tqdm  # type: ignore[import-untyped]

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.base_model import BaseModelSpec, select_targets
from lora_gen.evaluation.bench import RANK, STACK, Bench, bench_parser, open_bench, scores
from lora_gen.evaluation.report import BASE, ORACLE
from lora_gen.evaluation.statistics import paired_difference_interval, share_of_gain
from lora_gen.evaluation.tasks import EvaluationTask, evaluation_tasks
from lora_gen.files import atomic_write_text

DEFAULT = "default"
SETTINGS: dict[str, dict[str, Any]] = {
    DEFAULT: {},
    **{f"rank {rank}": {"rank": rank} for rank in (1, 2, 3, 8)},
    **{f"{targets} alone": {"targets": targets} for targets in ("attention", "mlp")},
    **{f"guidance {scale:g}": {"guidance_scale": scale} for scale in (0.5, 1.5, 2.0, 3.0)},
    **{f"steps {steps}": {"num_inference_steps": steps} for steps in (1, 2, 8)},
}
"""What differs from the default: rank 4, all linear modules, guidance 1, 4 steps."""
CUT_ORACLES = {f"{targets} alone": f"oracle, {targets} alone" for targets in ("attention", "mlp")}
"""How much of the oracle's gain lies in a target set at all."""


def measure(
    bench: Bench,
    tasks: Sequence[EvaluationTask],
    settings: Mapping[str, Mapping[str, Any]] = SETTINGS,
) -> dict[str, list[float]]:
    """Exact match of every task under every setting, of the base and of whole and cut oracles."""
    cuts = {cut: name.split()[0] for name, cut in CUT_ORACLES.items() if name in settings}
    found: dict[str, list[float]] = {name: [] for name in (BASE, ORACLE, *cuts, *settings)}
    for start in tqdm(range(0, len(tasks), STACK)):
        part = tasks[start : start + STACK]
        oracles = [bench.zoo.load(task.entry_id) for task in part]
        found[BASE] += scores(bench, part, None)
        found[ORACLE] += scores(bench, part, oracles)
        for cut, targets in cuts.items():
            found[cut] += scores(bench, part, [kept(o, bench.spec, targets) for o in oracles])
        for name, options in settings.items():
            adapters = [_made(bench, task, start + i, options) for i, task in enumerate(part)]
            found[name] += scores(bench, part, adapters)
    return found


def kept(adapter: Adapter, spec: BaseModelSpec, targets: str) -> Adapter:
    """The adapter on some of its modules alone."""
    names = set(select_targets(spec, targets))
    return replace(adapter, pairs={n: pair for n, pair in adapter.pairs.items() if n in names})


def _made(bench: Bench, task: EvaluationTask, seed: int, options: Mapping[str, Any]) -> Adapter:
    noise = torch.Generator().manual_seed(seed)
    asked = {"rank": RANK, **options}
    made = bench.pipe(task.descriptions[0], base=bench.spec, generator=noise, **asked)
    adapter: Adapter = made.adapters[0]
    return adapter


def summary(found: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Share of the oracle's gain of each setting, and its exact match beside the default's."""
    base, oracle = found[BASE], found[ORACLE]
    return {
        name: {
            "share_of_gain": share_of_gain(values, base, oracle).to_dict(),
            "difference": paired_difference_interval(values, found[DEFAULT]).to_dict(),
        }
        for name, values in found.items()
        if name not in (BASE, ORACLE)
    }


def main() -> None:
    """Measure every setting, and write a report."""
    parser = bench_parser(__doc__, tasks=48)
    parser.add_argument("--splits", nargs="*", default=["unseen_composition"])
    args = parser.parse_args()
    with open_bench(args.zoo, args.generator, args.base, inputs=args.inputs) as bench:
        asked = evaluation_tasks(bench.zoo, limit=args.tasks)
        splits = {split: summary(measure(bench, asked[split])) for split in args.splits}
    report = {"tasks": args.tasks, "inputs": args.inputs, "splits": splits}
    atomic_write_text(args.out, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
