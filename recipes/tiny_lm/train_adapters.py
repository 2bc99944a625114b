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
from torch import Tensor, nn
from tqdm import tqdm  # type: ignore[import-untyped]
from transformers import AutoModelForCausalLM

from lora_gen.adapter.adapter import Adapter, LoraPair
from lora_gen.adapter.base_model import BaseModelSpec, select_targets
from lora_gen.adapter.stacked import stacked_adapters
from lora_gen.zoo.entry import EntryInfo
from lora_gen.zoo.store import Zoo
from recipes.tiny_lm.lines import IGNORE, pad_lines
from recipes.tiny_lm.world.tasks import Task, make_splits, pairs, tasks_by_name

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


def stack_loss(logits: Tensor, labels: Tensor, adapters: int) -> Tensor:
    """Mean over each adapter's output bytes; (adapters,)."""
    flat = nn.functional.cross_entropy(
        logits[:, :-1].float().flatten(0, 1),
        labels[:, 1:].flatten(),
        reduction="none",
        ignore_index=IGNORE,
    )
    counted = (labels[:, 1:] != IGNORE).view(adapters, -1).sum(1)
    return flat.view(adapters, -1).sum(1) / counted


def train_stack(
    model: nn.Module,
    spec: BaseModelSpec,
    tasks: Sequence[Task],
    args: argparse.Namespace,
    seed: int,
) -> dict[str, tuple[Tensor, Tensor]]:
    """Factors of `len(tasks)` adapters, trained together."""
    seeds = [seed * 100_003 + i for i in range(len(tasks))]
    factors = initial_factors(spec, seeds, args.rank)
    parameters = [p for pair in factors.values() for p in pair]
    optimizer = torch.optim.Adam(parameters, lr=args.lr)
    rng = random.Random(seed)
    data = [pairs(task, TRAIN_PAIRS, TRAIN_SEED) for task in tasks]
    for step in range(args.steps):
        progress = step / args.steps
        optimizer.param_groups[0]["lr"] = args.lr * min(1.0, (step + 1) / 5) * (1 - 0.9 * progress)
        ids, labels = pad_lines([p for rows in data for p in rng.choices(rows, k=args.batch)])
        with stacked_adapters(model, factors), torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(input_ids=ids, use_cache=False).logits
        loss = stack_loss(logits, labels, len(tasks)).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return {name: (a.detach(), b.detach()) for name, (a, b) in factors.items()}


@torch.no_grad()
def accuracy(
    model: nn.Module, factors: dict[str, tuple[Tensor, Tensor]], tasks: Sequence[Task]
) -> list[float]:
    """Teacher-forced exact match on unseen inputs.

    Equal to greedy exact match, since one wrong byte breaks both.
    """
    ids, labels = pad_lines(
        [p for task in tasks for p in pairs(task, TEST_PAIRS, TEST_SEED)[:TEST_PAIRS]]
    )
    with stacked_adapters(model, factors):
        guesses = model(input_ids=ids, use_cache=False).logits[:, :-1].argmax(-1)
    wrong = ((guesses != labels[:, 1:]) & (labels[:, 1:] != IGNORE)).any(1)
    return [1 - float(row.float().mean()) for row in wrong.view(len(tasks), -1)]


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
            "tests": [p for p in pairs(task, TEST_PAIRS, TEST_SEED) if p[0] not in dict(examples)],
            "held_out_descriptions": [task.describe(rng, held_out=True) for _ in range(4)],
        },
    }


def _start(args: argparse.Namespace) -> None:
    """Load the base once in each worker process."""
    torch.set_num_threads(1)
    model: nn.Module = AutoModelForCausalLM.from_pretrained(args.base)
    model.eval().requires_grad_(False)
    _WORKER.update(args=args, model=model, spec=BaseModelSpec.from_config(args.base))


def _work(names: list[str]) -> tuple[list[str], dict[str, tuple[Tensor, Tensor]], list[float], int]:
    """Train and measure one stack."""
    args, model = _WORKER["args"], _WORKER["model"]
    tasks = [tasks_by_name()[name] for name in names]
    seed = args.seed + random.Random(names[0]).randrange(10**6)
    factors = train_stack(model, _WORKER["spec"], tasks, args, seed)
    return names, factors, accuracy(model, factors, tasks), seed


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
