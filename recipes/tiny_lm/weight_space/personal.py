"""Adapters for clients that no round has seen: what a federation of many tasks gives them.

Forty clients with a task each, 48 examples apart; twelve more come afterwards, with eight. The
federation is a hypernetwork of clients (pFedHN), one adapter for all (exact mean of deltas, and
FedAvg on factors), or none at all (the generator, asked with the new client's inputs alone, with
its eight examples, or with a description).

python -m recipes.tiny_lm.weight_space.personal [hypernetwork exact factors alone generated]
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch

from lora_gen.adapter.adapter import Adapter, LoraPair
from lora_gen.adapter.stacked import StackedFactors, stack_adapters, stacked_adapters
from lora_gen.codec.canonical import canonicalize
from lora_gen.evaluation.fitting import FitConfig, answer_loss, draws, fit, fit_stack, fresh_adapter
from lora_gen.weight_space.federate import average_factors, federate_adapters
from recipes.tiny_lm.weight_space.bench import HELD_OUT, Bench, Task, interval, load, save
from recipes.tiny_lm.weight_space.hypernet import (
    ClientHypernetwork,
    at_center,
    detached,
    drawn,
    pull,
)

CLIENTS, NEW, SHARD, SHOWN, RANK = 40, 12, 48, 8, 2
ROUNDS, PER_ROUND, LOCAL, LINES = 120, 10, 3, 4
NEW_STEPS, SERVER_LR = 40, 1e-3
_LOCAL = FitConfig(steps=LOCAL, lr=5e-3, warmup=1, batch=LINES)

Data = list[list[tuple[str, str]]]
Mean = Callable[[Sequence[Adapter], Sequence[float]], Adapter]


def shards(tasks: Sequence[Task], count: int) -> Data:
    """The first examples of each task."""
    return [list(task.entry.examples[:count]) for task in tasks]


def listed(factors: StackedFactors) -> list[Adapter]:
    """The stack's adapters one by one."""
    count = len(next(iter(factors.values()))[0])
    return [
        Adapter(
            pairs={
                n: LoraPair(lora_a=a[i].detach(), lora_b=b[i].detach())
                for n, (a, b) in factors.items()
            },
            base="tiny_lm",
        )
        for i in range(count)
    ]


def train_hypernetwork(bench: Bench, data: Data) -> ClientHypernetwork:
    """Rounds of pFedHN: local steps at some clients, then one step of the server."""
    network = ClientHypernetwork(fresh_adapter(bench.spec, rank=RANK), len(data))
    optimizer = torch.optim.Adam(network.parameters(), lr=SERVER_LR)
    source = torch.Generator().manual_seed(0)
    for number in range(ROUNDS):
        chosen = drawn(source, len(data), PER_ROUND)
        made = network(network.embeddings[list(chosen)])
        trained = _trained(bench, detached(made), [data[i] for i in chosen], number)
        optimizer.zero_grad(set_to_none=True)
        pull(made, trained).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 50.0)
        optimizer.step()
        if not number % 20:
            print("pFedHN round", number, flush=True)
    return network


def fit_embeddings(bench: Bench, network: ClientHypernetwork, data: Data) -> list[Adapter]:
    """New clients' adapters: embeddings fitted to their examples, the network frozen."""
    network.requires_grad_(False)
    embeddings_BE = at_center(network, len(data)).requires_grad_()
    config = FitConfig(steps=NEW_STEPS, lr=1e-1, batch=LINES)
    draw = draws(bench.chat, data, config)

    def loss_of(_: int) -> torch.Tensor:
        lines = draw()
        with (
            stacked_adapters(bench.model, network(embeddings_BE)),
            torch.autocast("cpu", torch.bfloat16),
        ):
            logits = bench.model(input_ids=lines.input_ids, use_cache=False).logits
        return answer_loss(logits, lines.labels, len(data))

    losses = fit([embeddings_BE], loss_of, config)
    print("embedding loss", losses[0], losses[-1], flush=True)
    with torch.no_grad():
        return listed(network(embeddings_BE))


def train_common(bench: Bench, data: Data, mean: Mean) -> Adapter:
    """One adapter for all clients, by as many rounds."""
    server = fresh_adapter(bench.spec, rank=RANK)
    source = torch.Generator().manual_seed(0)
    for number in range(ROUNDS):
        chosen = drawn(source, len(data), PER_ROUND)
        stack = stack_adapters([server] * len(chosen))
        trained = _trained(bench, stack, [data[i] for i in chosen], number)
        server = mean(listed(trained), [1.0] * len(chosen))
    return server


def exact(clients: Sequence[Adapter], sizes: Sequence[float]) -> Adapter:
    """The mean of deltas at the server's rank, in balanced factors to train on."""
    return canonicalize(federate_adapters(clients, sizes, rank=RANK).adapter)


def tuned(bench: Bench, start: Adapter, data: Data) -> list[Adapter]:
    """An adapter for each new client: some steps from a common start on its examples."""
    config = FitConfig(steps=NEW_STEPS, lr=1e-2, batch=LINES)
    stack = stack_adapters([start] * len(data))
    return listed(fit_stack(bench.model, bench.chat, stack, data, config, autocast=True))


def generated(tasks: Sequence[Task], data: Data) -> dict[str, list[Adapter]]:
    """What the shipped generator makes for each new client."""
    from lora_gen.assets import default_generator
    from lora_gen.pipeline import LoraGenPipeline

    pipe = LoraGenPipeline.from_pretrained(default_generator())
    asked: dict[str, Callable[[Task, list[tuple[str, str]]], dict[str, Any]]] = {
        "generated from inputs alone": lambda _, rows: {"prompts": [a for a, _ in rows]},
        "generated from eight examples": lambda _, rows: {"examples": rows},
        "generated from a description": lambda task, _: {"text": task.entry.descriptions[0]},
    }
    return {
        name: [
            pipe(**ask(t, rows), rank=RANK, generator=torch.Generator().manual_seed(0)).adapters[0]
            for t, rows in zip(tasks, data, strict=True)
        ]
        for name, ask in asked.items()
    }


GROUPS = ("hypernetwork", "exact", "factors", "alone", "generated")


def measure(bench: Bench, groups: Sequence[str] = GROUPS) -> dict[str, Any]:
    """Exact match of the federation's own clients and of new ones; other groups' are kept."""
    known, new = bench.tasks(("seen",), CLIENTS, 3), bench.tasks(HELD_OUT, NEW, 3)
    data, shown = shards(known, SHARD), shards(new, SHOWN)
    report: dict[str, Any] = load("personal") or {"ways": {}}
    report |= {"clients": CLIENTS, "new": NEW, "shown": SHOWN}

    def keep(name: str, mine: Sequence[Adapter], own: Sequence[Adapter] = ()) -> None:
        found = {"new": interval(bench.scores(mine, [t.tests for t in new]))}
        if own:
            found["own"] = interval(bench.scores(own, [t.tests for t in known]))
        report["ways"][name] = found
        print(name, found, flush=True)
        save("personal", report)

    if "hypernetwork" in groups:
        network = train_hypernetwork(bench, data)
        with torch.no_grad():
            own = listed(network(network.embeddings))
        fitted = fit_embeddings(bench, network, shown)
        keep("pFedHN, embedding fitted to eight examples", fitted, own)
    if "exact" in groups:
        _keep_common(bench, keep, "exact mean of deltas", exact, data, shown)
    if "factors" in groups:
        _keep_common(bench, keep, "FedAvg on factors", average_factors, data, shown)
    if "alone" in groups:
        fresh = fresh_adapter(bench.spec, rank=RANK)
        keep("no federation, trained on eight examples", tuned(bench, fresh, shown))
    if "generated" in groups:
        for name, adapters in generated(new, shown).items():
            keep(name, adapters)
    return report


def _keep_common(
    bench: Bench, keep: Callable[..., None], name: str, mean: Mean, data: Data, shown: Data
) -> None:
    """One adapter for all as it is, and as a start for new clients."""
    server = train_common(bench, data, mean)
    keep(f"{name}, one adapter for all", [server] * NEW, [server] * CLIENTS)
    keep(f"{name}, then trained on eight examples", tuned(bench, server, shown))


def _trained(bench: Bench, stack: StackedFactors, data: Data, seed: int) -> StackedFactors:
    config = FitConfig(
        steps=_LOCAL.steps, lr=_LOCAL.lr, warmup=_LOCAL.warmup, batch=_LOCAL.batch, seed=seed
    )
    return fit_stack(bench.model, bench.chat, stack, data, config, autocast=True)


if __name__ == "__main__":
    measure(Bench(), sys.argv[1:] or GROUPS)
