"""What measurements share: the base, the zoo, the generator, and scores of adapters on tasks."""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.base_model import BaseModelSpec
from lora_gen.adapter.stacked import stack_adapters
from lora_gen.assets import default_generator
from lora_gen.conditioning.chat import Chat, load_causal_lm
from lora_gen.evaluation.baselines.multi_task import told as told_input
from lora_gen.evaluation.baselines.registry import Sources
from lora_gen.evaluation.behavior import exact_matches
from lora_gen.evaluation.tasks import EvaluationTask
from lora_gen.pipeline import LoraGenPipeline
from lora_gen.zoo.store import Zoo

RANK = 4
STACK = 16
"""Adapters measured in one pass of the base."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What every measurement needs."""

    model: nn.Module
    chat: Chat
    spec: BaseModelSpec
    zoo: Zoo
    pipe: LoraGenPipeline
    inputs: int
    """Test inputs for each task."""


@contextmanager
def open_bench(
    zoo: str | Path, generator: str | Path, base: str, *, inputs: int
) -> Iterator[Bench]:
    """Everything loaded, and the zoo open for reading."""
    model, chat = load_causal_lm(base)
    with Zoo.open(zoo, read_only=True) as opened:
        yield Bench(
            model=model,
            chat=chat,
            spec=BaseModelSpec.from_config(base),
            zoo=opened,
            pipe=LoraGenPipeline.from_pretrained(generator),
            inputs=inputs,
        )


def sources(bench: Bench) -> Sources:
    """What baselines learn from: the entries of split `seen`, as the generator does."""
    return Sources(
        zoo=bench.zoo,
        ids=sorted(bench.zoo.ids(split="seen")),
        pipe=bench.pipe,
        spec=bench.spec,
        rank=RANK,
        model=bench.model,
        chat=bench.chat,
    )


@torch.no_grad()
def generate_for(
    bench: Bench, tasks: Sequence[EvaluationTask], seed: int, *, steps: int | None = None
) -> list[Adapter]:
    """One adapter for each task from text alone; the seed draws the noise and the wording."""
    adapters = []
    for i, task in enumerate(tasks):
        text = task.descriptions[seed % len(task.descriptions)]
        noise = torch.Generator().manual_seed(1_000 * seed + i)
        adapters += bench.pipe(
            text, base=bench.spec, rank=RANK, num_inference_steps=steps, generator=noise
        ).adapters
    return adapters


def scores(
    bench: Bench,
    tasks: Sequence[EvaluationTask],
    adapters: Sequence[Adapter] | None,
    *,
    told: bool = False,
) -> list[float]:
    """Exact match of each task under its own adapter, or of the base alone.

    Args:
        bench: Base and number of inputs.
        tasks: What is asked; no more than fit in memory at once.
        adapters: One a task.
        told: Whether the base reads the description before every input.
    """
    pairs = [
        (_asked(task, text, told), answer) for task in tasks for text, answer in tests(bench, task)
    ]
    return hits(bench, pairs, adapters).view(len(tasks), -1).float().mean(1).tolist()


def hits(
    bench: Bench, pairs: Sequence[tuple[str, str]], adapters: Sequence[Adapter] | None
) -> Tensor:
    """Whether each answer is exactly right; pairs are adapter-major, equally many for each."""
    lines = bench.chat.pack([bench.chat.line(*pair) for pair in pairs])
    factors = None if adapters is None else stack_adapters(adapters)
    return exact_matches(bench.model, lines, factors)


def _asked(task: EvaluationTask, question: str, is_told: bool) -> str:
    return told_input(task.descriptions[0], question) if is_told else question


def few_shot(bench: Bench, tasks: Sequence[EvaluationTask], count: int) -> list[float]:
    """Exact match of the base with `count` solved examples before each input."""
    found = []
    for task in tasks:
        rng = random.Random(task.name)
        lines = []
        for text, answer in tests(bench, task):
            question = bench.chat.question(text, rng.sample(task.shots, count))
            ids, start = bench.chat.line(text, answer)
            lines.append((question + ids[start:], len(question)))
        found.append(float(exact_matches(bench.model, bench.chat.pack(lines)).float().mean()))
    return found


def tests(bench: Bench, task: EvaluationTask) -> list[tuple[str, str]]:
    """Exactly `inputs` pairs, so that a stack is rectangular; few inputs are repeated."""
    return [task.tests[i % len(task.tests)] for i in range(bench.inputs)]


def bench_parser(description: str | None, *, tasks: int) -> argparse.ArgumentParser:
    """What every measurement of a generator over a zoo's tasks can be told.

    Args:
        description: Of the measurement.
        tasks: Tasks of each split, if not said otherwise.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--zoo", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--generator", type=Path, default=default_generator())
    parser.add_argument("--base", default="tiny_lm")
    parser.add_argument("--tasks", type=int, default=tasks, help="tasks of each split")
    parser.add_argument("--inputs", type=int, default=16)
    return parser
