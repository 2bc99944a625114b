"""The best of several candidates: how well each explains a few solved examples."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.stacked import stack_adapters, stacked_adapters
from lora_gen.conditioning.chat import IGNORE, Chat
from lora_gen.errors import ConditionError

Pair = tuple[str, str]


@torch.no_grad()
def example_losses(
    model: nn.Module, chat: Chat, adapters: Sequence[Adapter], examples: Sequence[Pair]
) -> Tensor:
    """Nats a token of the examples' answers under the base with each adapter, (B,).

    Args:
        model: The base, which is not changed.
        chat: How it is asked.
        adapters: Candidates for one task.
        examples: Solved examples of that task.

    Raises:
        ConditionError: There are no examples.
        AdapterMismatchError: An adapter targets modules that the base does not have.
    """
    if not examples:
        raise ConditionError("`examples` is empty, so no candidate can be chosen. Pass at least 1.")
    lines = chat.pack([chat.line(*pair) for _ in adapters for pair in examples])
    with stacked_adapters(model, stack_adapters(adapters)):
        logits = model(input_ids=lines.input_ids, use_cache=False).logits[:, :-1]
    targets = lines.labels[:, 1:]
    losses = nn.functional.cross_entropy(
        logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORE, reduction="none"
    )
    rows = losses.view(len(adapters), -1).sum(1)
    counts = (targets != IGNORE).view(len(adapters), -1).sum(1)
    found: Tensor = rows / counts
    return found


def best_by_examples(
    model: nn.Module, chat: Chat, adapters: Sequence[Adapter], examples: Sequence[Pair]
) -> list[int]:
    """Positions of the candidates, best first; see `example_losses`."""
    order: list[int] = example_losses(model, chat, adapters, examples).argsort().tolist()
    return order
