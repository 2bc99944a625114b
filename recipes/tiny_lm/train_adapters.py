"""Train one LoRA for each task: many at once on one frozen base, written to a zoo.

    python -m recipes.tiny_lm.train_adapters --base lora_gen/assets/tiny_lm/base --out
        build/tiny_lm/zoo

Resumable: tasks that the zoo already holds are skipped. Each adapter has its own seed and random
initialization.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]

from lora_gen.adapter.adapter import Adapter, LoraPair
from lora_gen.adapter.base_model import BaseModelSpec, select_targets
from lora_gen.conditioning.chat import Chat, load_causal_lm
from lora_gen.evaluation.behavior import exact_matches
from lora_gen.zoo.entry import EntryInfo
from lora_gen.zoo.store import Zoo
from recipes.tiny_lm.world.tasks import Task, make_splits, pairs, tasks_by_name
from training.objectives import label_loss

BASE_ID = "tiny_lm"
TRAIN_PAIRS, TEST_PAIRS = 96, 32
TRAIN_SEED, TEST_SEED = 1, 2
"""Pair seeds: training inputs never come from the stream that measures."""
NUM_DESCRIPTIONS = 16
_WORKER: dict[str, Any] = {}


def initial_factors(
    spec: BaseModelSpec, seeds: Sequence[int], rank: int
) -> dict[str, tuple[Tensor, Tensor]]:
    """PEFT's default start (A uniform by Kaiming, B zero), one seed for each adapter."""
    factors = {}
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    for name in select_targets(spec, "all-linear"):
        shape = spec.modules[name]
        bound = 1 / math.sqrt(shape.in_features)
        a_BRI = torch.stack(
            [(torch.rand(rank, shape.in_features, generator=g) * 2 - 1) * bound for g in generators]
        )
        b_BOR = torch.zeros(len(seeds), shape.out_features, rank)
        factors[name] = (a_BRI.requires_grad_(), b_BOR.requires_grad_())
    return factors


def train_stack(tasks: Sequence[Task], seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Factors of `len(tasks)` adapters, trained together."""
    args, model, spec = _WORKER["args"], _WORKER["model"], _WORKER["spec"]
    seeds = [seed * 100_003 + i for i in range(len(tasks))]
    factors = initial_factors(spec, seeds, args.rank)
    parameters = [p for pair in factors.values() for p in pair]
    optimizer = torch.optim.Adam(parameters, lr=args.lr)
    rng = random.Random(seed)
    chat: Chat = _WORKER["chat"]
    data = [[chat.line(*p) for p in pairs(task, TRAIN_PAIRS, TRAIN_SEED)] for task in tasks]
    for step in range(args.steps):
        progress = step / args.steps
        optimizer.param_groups[0]["lr"] = args.lr * min(1.0, (step + 1) / 5) * (1 - 0.9 * progress)
        lines = chat.pack([line for rows in data for line in rng.choices(rows, k=args.batch)])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = label_loss(model, factors, lines, len(tasks)) * len(tasks)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return {name: (a.detach(), b.detach()) for name, (a, b) in factors.items()}


def accuracy(factors: dict[str, tuple[Tensor, Tensor]], tasks: Sequence[Task]) -> list[float]:
    """Exact match of each adapter on inputs that it was not trained on."""
    tests = [_tests(task) for task in tasks]
    count = max(len(rows) for rows in tests)
    chat: Chat = _WORKER["chat"]
    lines = chat.pack([chat.line(*rows[i % len(rows)]) for rows in tests for i in range(count)])
    hits = exact_matches(_WORKER["model"], lines, factors).view(len(tasks), count)
    return [float(row[: len(rows)].float().mean()) for row, rows in zip(hits, tests, strict=True)]


def _tests(task: Task) -> list[tuple[str, str]]:
    """Test pairs whose input is in no training pair."""
    trained = dict(pairs(task, TRAIN_PAIRS, TRAIN_SEED))
    return [pair for pair in pairs(task, TEST_PAIRS, TEST_SEED) if pair[0] not in trained]


def adapter_of(factors: dict[str, tuple[Tensor, Tensor]], index: int) -> Adapter:
    """One adapter of the stack."""
    found = {name: LoraPair(lora_a=a[index], lora_b=b[index]) for name, (a, b) in factors.items()}
    return Adapter(pairs=found, base=BASE_ID, task_type="CAUSAL_LM")


def record(
    task: Task, split: str, seed: int, *, descriptions: int = NUM_DESCRIPTIONS
) -> dict[str, Any]:
    """What the zoo keeps of a task besides the adapter."""
    rng = random.Random(f"describe/{task.name}")
    wordings = dict.fromkeys(task.describe(rng) for _ in range(descriptions * 3))
    examples = pairs(task, TRAIN_PAIRS, TRAIN_SEED)
    return {
        "family": task.name,
        "task": task.name,
        "split": split,
        "descriptions": tuple(wordings)[:descriptions],
        "prompts": tuple(text for text, _ in examples[:16]),
        "examples": tuple(examples),
        "seed": seed,
        "extra": {
            "tests": _tests(task),
            "held_out_descriptions": [task.describe(rng, held_out=True) for _ in range(4)],
        },
    }


def _start(args: argparse.Namespace) -> None:
    """Load the base once in each worker process."""
    torch.set_num_threads(1)
    model, chat = load_causal_lm(args.base)
    _WORKER.update(args=args, model=model, chat=chat, spec=BaseModelSpec.from_config(args.base))


def _work(names: list[str]) -> tuple[list[str], dict[str, tuple[Tensor, Tensor]], list[float], int]:
    """Train and measure one stack."""
    tasks = [tasks_by_name()[name] for name in names]
    seed = _WORKER["args"].seed + random.Random(names[0]).randrange(10**6)
    factors = train_stack(tasks, seed)
    return names, factors, accuracy(factors, tasks), seed


def main() -> None:
    """Train what is missing, task kinds together so that lines in a stack have like lengths."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--stack", type=int, default=50)
    parser.add_argument("--batch", type=int, default=4, help="lines for each adapter and step")
    parser.add_argument("--steps", type=int, default=45)
    parser.add_argument("--lr", type=float, default=1e-2)
    parser.add_argument("--rank", type=int, default=4)
    parser.add_argument("--limit", type=int, default=0, help="stop after so many adapters")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2, help="each trains stacks on one thread")
    parser.add_argument("--splits", nargs="*", help="only these splits")
    args = parser.parse_args()
    split_of = {name: split for split, names in make_splits().items() for name in names}
    zoo = Zoo.open(Path(args.out), create=True)
    done = {entry.task for entry in zoo.entries()}
    wanted = args.splits or sorted(set(split_of.values()))
    todo = [
        task
        for name, task in tasks_by_name().items()
        if name not in done and split_of[name] in wanted
    ]
    random.Random(args.seed).shuffle(todo)
    todo = todo[: args.limit or None]
    todo.sort(key=lambda task: (sum(len(a) + len(b) for a, b in pairs(task, 8, 0)), task.name))
    stacks = [
        [task.name for task in todo[i : i + args.stack]] for i in range(0, len(todo), args.stack)
    ]
    started = time.time()
    with torch.multiprocessing.get_context("spawn").Pool(args.processes, _start, (args,)) as pool:
        for names, factors, scores, seed in tqdm(
            pool.imap_unordered(_work, stacks), total=len(stacks), unit="stack"
        ):
            tqdm.write(
                f"{sum(scores) / len(scores):.3f} mean accuracy, {time.time() - started:.0f} s"
            )
            zoo.add_many(
                [
                    (
                        adapter_of(factors, j),
                        EntryInfo(
                            **record(tasks_by_name()[name], split_of[name], seed * 100_003 + j),
                            steps=args.steps,
                            accuracy=scores[j],
                        ),
                    )
                    for j, name in enumerate(names)
                ]
            )


if __name__ == "__main__":
    main()
