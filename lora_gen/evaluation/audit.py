"""The memorization audit: are adapters new, and do they work, beside simpler ways to look new?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.base_model import EMBEDDED_BASES
from lora_gen.adapter.io import load_adapter
from lora_gen.adapter.stacked import stack_adapters
from lora_gen.conditioning.chat import load_causal_lm
from lora_gen.errors import ConfigError, ZooError
from lora_gen.evaluation.baselines.registry import ALL, MULTI_TASK, build_baselines
from lora_gen.evaluation.behavior import exact_matches
from lora_gen.evaluation.bench import STACK, Bench, generate_for, open_bench, scores, sources
from lora_gen.evaluation.novelty import COPY, THRESHOLDS, Novelty, ZooReference, verdict
from lora_gen.evaluation.report import GENERATED, ORACLE
from lora_gen.evaluation.statistics import Interval, proportion_interval
from lora_gen.evaluation.tasks import EvaluationTask, evaluation_tasks
from lora_gen.zoo.entry import ZooEntry
from lora_gen.zoo.store import Zoo

BAR = 0.5
"""Exact match that counts as working."""
INPUTS = 16


def audit_adapters(folders: Sequence[str | Path], zoo: str | Path) -> dict[str, Any]:
    """How new each adapter is against the zoo's entries of split `seen`, with a verdict in words.

    Where an adapter's base is at hand (embedded, or a local folder), the report also has the
    overlap of its mistakes with those of its nearest neighbor, on that neighbor's own test pairs.

    Args:
        folders: Adapter folders or files, all of one base.
        zoo: The zoo that their generator learned from.

    Raises:
        ZooError: The zoo has no adapters of this base to compare with.
        LoraGenError: An adapter cannot be read, or does not fit the zoo.
    """
    adapters = [load_adapter(folder) for folder in folders]
    bases = sorted({adapter.base for adapter in adapters if adapter.base is not None})
    if len(bases) > 1:
        raise ConfigError(
            f"The adapters are for `{bases[0]}` and `{bases[1]}`. Audit those of one base at once."
        )
    with Zoo.open(zoo, read_only=True) as opened:
        reference = ZooReference(opened, _seen_ids(opened, bases[0] if bases else None))
        found = reference.novelty(adapters)
        overlaps = _overlaps(opened, adapters, found, bases[0] if bases else None)
    records = [
        {
            "adapter": str(folder),
            **asdict(novelty),
            "error_overlap": overlap,
            "novel_at": novel_at(novelty),
            "verdict": verdict(Path(folder).name, novelty, overlap),
        }
        for folder, novelty, overlap in zip(folders, found, overlaps, strict=True)
    ]
    return {"zoo": _reference_record(reference), "adapters": records}


def audit_generator(
    *,
    zoo: str | Path,
    generator: str | Path,
    base: str = "tiny_lm",
    split: str = "unseen_composition",
    tasks: int | None = 48,
    seed: int = 0,
) -> dict[str, Any]:
    """How new and how good a generator's adapters are, beside noise, soups and a Gaussian.

    One adapter a task, from text alone. An adapter counts as novel and performant where it is right
    on at least half of the test pairs and farther from its nearest zoo adapter than a multiple of
    the zoo's median leave-one-out distance. The bar and the multiples are fixed.

    Args:
        zoo: The zoo the generator learned from, with tests of the split.
        generator: Folder or hub id.
        base: The base.
        split: Whose tasks are asked for.
        tasks: How many at most; None takes all.
        seed: Draws the noise.

    Raises:
        ZooError: The zoo has no tests of the split.
    """
    with open_bench(zoo, generator, base, inputs=INPUTS) as bench:
        splits = evaluation_tasks(bench.zoo, limit=tasks)
        if split not in splits:
            raise ZooError(
                f"The zoo has no test pairs of split `{split}`. It has: {', '.join(splits)}."
            )
        reference = ZooReference(bench.zoo, _seen_ids(bench.zoo, bench.spec.id))
        groups = {
            name: _group(bench, reference, splits[split], name, adapters)
            for name, adapters in _adapters(bench, splits[split], seed)
        }
        record = _reference_record(reference)
    return {
        "zoo": record,
        "generator": str(Path(generator).name),
        "split": split,
        "tasks": [task.name for task in splits[split]],
        "bar": BAR,
        "inputs": INPUTS,
        "seed": seed,
        "groups": groups,
        "verdict": group_verdict(groups),
    }


def novel_at(novelty: Novelty) -> dict[str, bool]:
    """Whether the adapter is novel at each threshold."""
    return {f"{tau:g}": novelty.relative > tau for tau in THRESHOLDS}


def error_overlap(wrong: torch.Tensor, other: torch.Tensor) -> float:
    """Intersection over union of two sets of mistakes; 1 where neither makes any."""
    either = int((wrong | other).sum())
    return int((wrong & other).sum()) / either if either else 1.0


def group_verdict(groups: Mapping[str, Mapping[str, Any]]) -> str:
    """What the rates mean, in one sentence."""
    own = groups[GENERATED]
    rate = Interval(**own["novel_and_performant"]["1"])
    others = {
        name: Interval(**group["novel_and_performant"]["1"])
        for name, group in groups.items()
        if name not in (GENERATED, ORACLE)
    }
    best = max(others, key=lambda name: others[name].value)
    rival = f"the best simple way, {best}, makes {others[best].value:.0%}"
    told = (
        f"{rate.value:.0%} of its adapters are both new and good [{rate.low:.0%}, {rate.high:.0%}]"
    )
    if own["copies"] > 0.5:
        return f"The generator copies: {own['copies']:.0%} of its adapters are in the zoo already."
    if rate.low > others[best].high:
        return f"The generator makes new adapters that work: {told}, {rival}."
    if rate.value > others[best].value:
        return f"The generator is ahead, but not clearly: {told}, {rival} (intervals overlap)."
    return f"The generator is not ahead of simpler ways: {told}, {rival}."


def _seen_ids(zoo: Zoo, base: str | None) -> list[str]:
    """Entries that a generator may have learned from.

    Raises:
        ZooError: There are none for the base.
    """
    ids = sorted(zoo.ids(split="seen", base=base))
    if not ids:
        raise ZooError(
            f"`{zoo.folder}` has no entry of split `seen` for the base `{base}`, so there is "
            "nothing to compare with. Name the zoo that the generator learned from with `--zoo`."
        )
    return ids


def _reference_record(reference: ZooReference) -> dict[str, Any]:
    return {
        "folder": str(reference.zoo.folder),
        "entries": len(reference.ids),
        "leave_one_out_sample": len(reference.sampled),
        "median_distance": reference.median,
        "median_frobenius_distance": reference.frobenius_median,
    }


def _adapters(
    bench: Bench, tasks: Sequence[EvaluationTask], seed: int
) -> Iterator[tuple[str, list[Adapter]]]:
    """(group, one adapter a task), one group at a time."""
    yield GENERATED, generate_for(bench, tasks, seed)
    names = [name for name in ALL if name != MULTI_TASK]  # it reads the text, so it is no adapter
    texts = [task.descriptions[0] for task in tasks]
    for way in build_baselines(names, sources(bench)):
        yield way.name, way.adapters(texts, seed)
    yield ORACLE, [bench.zoo.load(task.entry_id) for task in tasks]


def _group(
    bench: Bench,
    reference: ZooReference,
    tasks: Sequence[EvaluationTask],
    name: str,
    adapters: Sequence[Adapter],
) -> dict[str, Any]:
    """Novelty, accuracy and rates of one group."""
    families = [bench.zoo.get(task.entry_id).family for task in tasks]
    # An oracle of a seen task is an entry itself; the left-out reference leaves it out too.
    found = reference.novelty(adapters, families=families if name == ORACLE else None)
    accuracy: list[float] = []
    for start in range(0, len(tasks), STACK):
        accuracy += scores(bench, tasks[start : start + STACK], adapters[start : start + STACK])
    near = [bench.zoo.get(novelty.nearest_id) for novelty in found]
    overlaps = _mistakes_shared(bench.model, bench.chat, bench.zoo, adapters, near)
    rates = {
        f"{tau:g}": proportion_interval(
            sum(n.relative > tau and a >= BAR for n, a in zip(found, accuracy, strict=True)),
            len(tasks),
        ).to_dict()
        for tau in THRESHOLDS
    }
    return {
        "novel_and_performant": rates,
        "copies": sum(n.relative < COPY for n in found) / len(found),
        "accuracy": accuracy,
        "relative_distance": [n.relative for n in found],
        "frobenius_relative": [n.frobenius_relative for n in found],
        "nearest": [n.nearest_task for n in found],
        "error_overlap": overlaps,
    }


def _overlaps(
    zoo: Zoo, adapters: Sequence[Adapter], found: Sequence[Novelty], base: str | None
) -> list[float | None]:
    """Overlaps of mistakes, None where the base is not at hand."""
    if base is None or not (base in EMBEDDED_BASES or Path(base).is_dir()):
        return [None] * len(adapters)
    model, chat = load_causal_lm(base)
    near = [zoo.get(novelty.nearest_id) for novelty in found]
    return _mistakes_shared(model, chat, zoo, adapters, near)


def _mistakes_shared(
    model: Any, chat: Any, zoo: Zoo, adapters: Sequence[Adapter], near: Sequence[ZooEntry]
) -> list[float | None]:
    """For each adapter, how far its mistakes on its neighbor's tests are the neighbor's own."""
    found: list[float | None] = []
    for adapter, entry in zip(adapters, near, strict=True):
        tests = [tuple(pair) for pair in entry.extra.get("tests", ())][:INPUTS]
        if not tests:
            found.append(None)
            continue
        lines = chat.pack([chat.line(*pair) for pair in (*tests, *tests)])
        factors = stack_adapters([adapter, zoo.load(entry.id)])
        wrong = ~exact_matches(model, lines, factors).view(2, -1)
        found.append(error_overlap(wrong[0], wrong[1]))
    return found
