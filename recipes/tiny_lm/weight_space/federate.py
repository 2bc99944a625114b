"""Rounds of federated fine-tuning: exact means of deltas beside means of factors.

Each task's training pairs are spread over clients with unequal amounts and unequal ranks. A round
is a few local steps from the server's adapter, then one aggregation; the score is on the task's
tests. "One client" is the largest client alone with the same number of steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lora_gen.adapter.adapter import Adapter, LoraPair
from lora_gen.adapter.algebra import resize
from lora_gen.adapter.stacked import stack_adapters
from lora_gen.codec.canonical import canonicalize
from lora_gen.evaluation.fitting import FitConfig, fit_stack, fresh_adapter
from lora_gen.weight_space.federate import average_factors, federate_adapters
from recipes.tiny_lm.weight_space.bench import HELD_OUT, Bench, Task, interval, save

TASKS, ROUNDS, STEPS = 10, 3, 12
SIZES, RANKS = (48, 24, 8), (4, 2, 1)
SERVER_RANK = 4

Data = list[list[tuple[str, str]]]
Scores = list[list[float]]


def local(bench: Bench, starts: Sequence[Adapter], data: Data, seed: int) -> list[Adapter]:
    """Every client's adapter after its own steps; all train at once."""
    config = FitConfig(steps=STEPS, lr=1e-2, seed=seed)
    factors = fit_stack(
        bench.model, bench.chat, stack_adapters(starts), data, config, autocast=True
    )
    return [
        Adapter(
            pairs={n: LoraPair(lora_a=a[i], lora_b=b[i]) for n, (a, b) in factors.items()},
            base="tiny_lm",
        )
        for i in range(len(starts))
    ]


def exact(clients: Sequence[Adapter]) -> Adapter:
    """The mean of deltas at the server's rank, in balanced factors to train on."""
    return canonicalize(federate_adapters(clients, SIZES, rank=SERVER_RANK).adapter)


def on_factors(clients: Sequence[Adapter]) -> Adapter:
    """FedAvg on A and on B."""
    return average_factors(clients, SIZES)


def run(
    bench: Bench, tasks: Sequence[Task], mean: Callable[[Sequence[Adapter]], Adapter]
) -> Scores:
    """Scores after each round, a list a task."""
    data = [shard for task in tasks for shard in _shards(task)]
    server = [fresh_adapter(bench.spec, rank=SERVER_RANK, seed=i) for i in range(len(tasks))]
    scores: Scores = [[] for _ in tasks]
    for number in range(ROUNDS):
        # A client of a smaller rank gets the server's adapter cut to its rank; before the first
        # round there is nothing to cut, and each begins afresh.
        starts = [
            resize(one, rank) if number else fresh_adapter(bench.spec, rank=rank, seed=i)
            for i, one in enumerate(server)
            for rank in RANKS
        ]
        trained = local(bench, starts, data, number)
        groups = [trained[i : i + len(SIZES)] for i in range(0, len(trained), len(SIZES))]
        cut = [[resize(a, r) for a, r in zip(g, RANKS, strict=True)] for g in groups]
        server = [mean(group) for group in cut]
        values = bench.scores(server, [task.tests for task in tasks])
        for found, value in zip(scores, values, strict=True):
            found.append(value)
    return scores


def measure(bench: Bench) -> dict[str, Any]:
    """Exact match after each round."""
    tasks = bench.tasks(HELD_OUT, TASKS)
    found = {"exact mean of deltas": run(bench, tasks, exact)}
    found["FedAvg on factors"] = run(bench, tasks, on_factors)
    report: dict[str, Any] = {"tasks": TASKS, "clients": list(zip(SIZES, RANKS, strict=True))}
    report["rounds"] = {
        name: [interval([row[i] for row in rows]) for i in range(ROUNDS)]
        for name, rows in found.items()
    }
    save("federate", report)
    return report


def _shards(task: Task) -> Data:
    pairs, shards, start = list(task.entry.examples), [], 0
    for size in SIZES:
        shards.append(pairs[start : start + size])
        start += size
    return shards


if __name__ == "__main__":
    print(measure(Bench()))
