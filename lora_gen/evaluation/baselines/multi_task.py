"""One LoRA for all tasks, told the task in its input: what plain instruction tuning would give."""

from __future__ import annotations

import random
from collections.abc import Sequence

from torch import nn

from lora_gen.adapter.adapter import Adapter, LoraPair
from lora_gen.adapter.base_model import BaseModelSpec
from lora_gen.adapter.stacked import stack_adapters
from lora_gen.conditioning.chat import Chat
from lora_gen.evaluation.fitting import FitConfig, fit_stack, fresh_adapter
from lora_gen.zoo.store import Zoo

CONFIG = FitConfig(steps=400, lr=5e-3, batch=16)
_PAIRS = 8  # of each entry; more tasks teach more than more pairs of one


def told(text: str, question: str) -> str:
    """An input with its task's description before it."""
    return f"{text}: {question}"


def multi_task_adapter(
    model: nn.Module,
    chat: Chat,
    spec: BaseModelSpec,
    zoo: Zoo,
    ids: Sequence[str],
    *,
    rank: int,
    config: FitConfig | None = None,
) -> Adapter:
    """A LoRA trained on the examples of all entries at once, each input told its description."""
    config = config or CONFIG
    rng = random.Random(config.seed)
    pairs = []
    for entry_id in ids:
        entry = zoo.get(entry_id)
        if entry.descriptions:
            kept = rng.sample(entry.examples, min(_PAIRS, len(entry.examples)))
            pairs += [(told(rng.choice(entry.descriptions), a), b) for a, b in kept]
    start = fresh_adapter(spec, rank=rank, seed=config.seed)
    factors = fit_stack(model, chat, stack_adapters([start]), [pairs], config)
    found = {name: LoraPair(lora_a=a[0], lora_b=b[0]) for name, (a, b) in factors.items()}
    return Adapter(pairs=found, base=spec.id, task_type=spec.task_type)
