"""What a base makes of solved examples: its own states where the answers begin.

A base that learns in context holds the task that it was shown in its hidden states (function
vectors: Todd et al., arXiv 2310.15213). An adapter that was trained on the task puts the same there
for good, so these states are what weights tell best, and descriptions can be mapped to them without
a single adapter.

Shapes: N tasks, L layers, H hidden width, S = 2 L H width of a row.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lora_gen.conditioning.chat import Chat
from lora_gen.errors import ConditionError

MIN_EXAMPLES = 3
"""Answers count from the third on: before, the base does not know the task yet."""
_DRAWS, _SHOTS, _TOKENS, _AT_ONCE = 3, 6, 256, 48

Examples = Sequence[tuple[str, str]]


@torch.no_grad()
def shown_states(model: Any, chat: Chat, examples: Mapping[str, Examples]) -> Tensor:
    """A row for each task, (N, S): mean states before answers, and over them, layer by layer.

    Args:
        model: The base, a causal language model of Transformers.
        chat: How it is asked.
        examples: Name -> input-output pairs; the name draws which are shown, and in what order.

    Raises:
        ConditionError: A task has fewer than `MIN_EXAMPLES` examples.
    """
    lines = []
    for row, (name, pairs) in enumerate(examples.items()):
        if len(pairs) < MIN_EXAMPLES:
            raise ConditionError(
                f"`{name}` has {len(pairs)} examples, but at least {MIN_EXAMPLES} are needed. Add "
                "some, or describe the task instead."
            )
        rng = random.Random(f"fv/{name}")
        lines += [(row, *_line(chat, pairs, rng)) for _ in range(_DRAWS)]
    lines.sort(key=lambda line: len(line[1]))
    sums = torch.zeros(len(examples), 2, model.config.num_hidden_layers, model.config.hidden_size)
    counts = torch.zeros(len(examples))
    for start in range(0, len(lines), _AT_ONCE):
        chosen = lines[start : start + _AT_ONCE]
        packed = chat.pack([(ids, len(ids)) for _, ids, _ in chosen])
        found = model.model(packed.input_ids, output_hidden_states=True, use_cache=False)
        states_LBTH = torch.stack(found.hidden_states[1:]).float()
        for i, (row, _, spans) in enumerate(chosen):
            for begin, end in spans:
                sums[row, 0] += states_LBTH[:, i, begin - 1]
                sums[row, 1] += states_LBTH[:, i, begin - 1 : end - 1].mean(1)
                counts[row] += 1
    return (sums / counts.clamp_min(1)[:, None, None, None]).flatten(1)


def _line(
    chat: Chat, pairs: Examples, rng: random.Random
) -> tuple[list[int], list[tuple[int, int]]]:
    """Token ids of a few drawn examples, and where the answers that count begin and end."""
    shots = rng.sample(
        [(str(text), str(answer)) for text, answer in pairs], min(_SHOTS, len(pairs))
    )
    ids, starts, ends = chat.shots(shots)
    while len(ids) > _TOKENS and len(shots) > MIN_EXAMPLES + 1:
        shots = shots[:-1]
        ids, starts, ends = chat.shots(shots)
    spans = list(zip(starts, ends, strict=True))[MIN_EXAMPLES - 1 :]
    return ids, spans
