"""Do several samples for an ambiguous description cover the tasks that it fits?

    python -m lora_gen.evaluation.readings --descriptions FILE --zoo ZOO --out report.json
        [--generator FOLDER] [--samples 8] [--limit N] [--records]

The file holds one JSON object a line: `split`, `descriptions`, `readings`, and `pairs`, which maps
each reading to pairs of input and output. The first 8 of them may be shown, the others are tests.
A sample covers a reading if it answers at least half of the reading's tests exactly.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm  # type: ignore[import-untyped]

from lora_gen.adapter.adapter import Adapter
from lora_gen.assets import default_generator
from lora_gen.errors import ConfigError
from lora_gen.evaluation.baselines.nearest import NearestText
from lora_gen.evaluation.bench import RANK, Bench, hits, open_bench, sources
from lora_gen.evaluation.choice import best_by_examples
from lora_gen.evaluation.statistics import mean_interval, share_of_gain
from lora_gen.files import atomic_write_text

SHOWN = 8
"""Pairs of each reading that may be shown."""
CHOSEN_BY = 2
"""Examples that choose among the samples."""
COVERED = 0.5

Pair = tuple[str, str]
Sampler = Callable[[str, int, Sequence[Pair] | None], list[Adapter]]


@dataclass(frozen=True, kw_only=True)
class OpenDescription:
    """A description that fits several tasks, with what each of them does."""

    split: str
    text: str
    pairs: Mapping[str, tuple[Pair, ...]]
    """Reading -> pairs; the first `SHOWN` may be shown, the others are tests."""


def read_descriptions(path: Path, *, inputs: int) -> list[OpenDescription]:
    """The file's descriptions, the first wording of each.

    Raises:
        ConfigError: A line is not a record, or a reading has too few pairs.
    """
    found = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            data = json.loads(line)
            pairs = {
                name: tuple((a, b) for a, b in data["pairs"][name]) for name in data["readings"]
            }
            one = OpenDescription(split=data["split"], text=data["descriptions"][0], pairs=pairs)
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"`{path}` line {number} is not a description with readings and their pairs "
                f"({error}). Make the file again."
            ) from error
        short = [name for name, rows in one.pairs.items() if len(rows) < SHOWN + inputs]
        if short:
            raise ConfigError(
                f"`{path}` line {number} has {len(one.pairs[short[0]])} pairs of `{short[0]}`, but "
                f"{SHOWN + inputs} are needed. Lower `--inputs`, or make the file again."
            )
        found.append(one)
    return found


def measure(
    bench: Bench, sample: Sampler, descriptions: Sequence[OpenDescription], count: int
) -> list[dict[str, Any]]:
    """One record for each description: what its samples do on every reading."""
    return [
        _measure(bench, sample, one, count)
        for one in tqdm(descriptions, unit="description", leave=False)
    ]


def _measure(bench: Bench, sample: Sampler, one: OpenDescription, count: int) -> dict[str, Any]:
    adapters = sample(one.text, count, None)
    accuracy = _accuracies(bench, adapters, one)
    chosen, told = {}, {}
    for row, (name, pairs) in enumerate(one.pairs.items()):
        order = best_by_examples(bench.model, bench.chat, adapters, pairs[:CHOSEN_BY])
        chosen[name] = float(accuracy[order[0], row])
        shown = sample(one.text, 1, pairs[:SHOWN])
        told[name] = float(_accuracies(bench, shown, one)[0, row])
    return {
        "split": one.split,
        "text": one.text,
        "readings": list(one.pairs),
        "covered": (accuracy >= COVERED).any(0).float().tolist(),
        "covered_by_first": (accuracy[0] >= COVERED).float().tolist(),
        "chosen": chosen,
        "with_examples": told,
    }


def _accuracies(bench: Bench, adapters: Sequence[Adapter], one: OpenDescription) -> torch.Tensor:
    """Exact match of every adapter on every reading, (adapters, readings)."""
    tests = [pair for rows in one.pairs.values() for pair in rows[SHOWN : SHOWN + bench.inputs]]
    found = hits(bench, tests * len(adapters), adapters)
    return found.view(len(adapters), len(one.pairs), -1).float().mean(-1)


def summary(
    records: Sequence[Mapping[str, Any]], oracle: Mapping[str, tuple[float, float]]
) -> dict[str, Any]:
    """Means over descriptions with 95% intervals, for each split and for all.

    Args:
        records: As `measure` returns them.
        oracle: Reading -> (base, oracle) accuracy, for the readings that have an oracle adapter.
    """
    splits = {"all": list(records)}
    for record in records:
        splits.setdefault(record["split"], []).append(record)
    return {split: _summary(found, oracle) for split, found in splits.items()}


def _summary(
    records: Sequence[Mapping[str, Any]], oracle: Mapping[str, tuple[float, float]]
) -> dict[str, Any]:
    def share(values: Mapping[str, float]) -> float:
        return sum(values.values()) / len(values)

    parts: dict[str, Any] = {"descriptions": len(records)}
    for name in ("covered", "covered_by_first"):
        rows = [sum(record[name]) / len(record[name]) for record in records]
        parts[name] = mean_interval(rows).to_dict()
    for name in ("chosen", "with_examples"):
        parts[name] = mean_interval([share(record[name]) for record in records]).to_dict()
        known = [
            (value, *oracle[reading])
            for record in records
            for reading, value in record[name].items()
            if reading in oracle
        ]
        if known:
            method, base, best = zip(*known, strict=True)
            parts[f"{name}_share_of_gain"] = share_of_gain(method, base, best).to_dict()
    return parts


def references(
    bench: Bench, descriptions: Sequence[OpenDescription]
) -> dict[str, tuple[float, float]]:
    """Reading -> (base, oracle) accuracy on its tests, for the readings that the zoo has."""
    known = {entry.task: entry.id for entry in bench.zoo.entries() if entry.task}
    pairs = {n: rows for one in descriptions for n, rows in one.pairs.items() if n in known}
    found = {}
    for name, rows in pairs.items():
        tests = list(rows[SHOWN : SHOWN + bench.inputs])
        base, oracle = (
            float(hits(bench, tests, adapters).float().mean())
            for adapters in (None, [bench.zoo.load(known[name])])
        )
        found[name] = (base, oracle)
    return found


def generated(bench: Bench) -> Sampler:
    """Samples of the generator."""

    def sample(text: str, count: int, examples: Sequence[Pair] | None) -> list[Adapter]:
        noise = torch.Generator().manual_seed(0)
        output = bench.pipe(
            text,
            examples=examples,
            base=bench.spec,
            rank=RANK,
            num_adapters=count,
            generator=noise,
        )
        return list(output.adapters)

    return sample


def nearest(bench: Bench) -> Sampler:
    """The zoo adapters with the nearest descriptions; examples say nothing to them."""
    near = NearestText(bench.zoo, sources(bench).ids, bench.pipe.encoder)

    def sample(text: str, count: int, examples: Sequence[Pair] | None) -> list[Adapter]:
        return [bench.zoo.load(i) for i, _ in near.neighbors([text], count)[0]]

    return sample


def main() -> None:
    """Measure the generator and its nearest-description baseline, and write a report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--descriptions", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--zoo", type=Path, required=True)
    parser.add_argument("--generator", type=Path, default=default_generator())
    parser.add_argument("--base", default="tiny_lm")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--inputs", type=int, default=16)
    parser.add_argument("--records", action="store_true", help="keep each description's figures")
    parser.add_argument("--limit", type=int, help="descriptions of each split")
    args = parser.parse_args()
    found = read_descriptions(args.descriptions, inputs=args.inputs)
    if args.limit is not None:
        splits = dict.fromkeys(one.split for one in found)
        found = [one for s in splits for one in [x for x in found if x.split == s][: args.limit]]
    with open_bench(args.zoo, args.generator, args.base, inputs=args.inputs) as bench:
        oracle = references(bench, found)
        report: dict[str, Any] = {"samples": args.samples, "inputs": args.inputs, "methods": {}}
        for name, sampler in (("generated", generated(bench)), ("nearest text", nearest(bench))):
            records = measure(bench, sampler, found, args.samples)
            report["methods"][name] = {"splits": summary(records, oracle)}
            if args.records:
                report["methods"][name]["records"] = records
            print(json.dumps({name: report["methods"][name]["splits"]}, indent=1))
    atomic_write_text(args.out, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
