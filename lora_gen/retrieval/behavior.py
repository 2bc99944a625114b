"""What adapters do, as vectors: how each moves the base's answers to a few fixed questions.

Nothing is learned, so nothing can leak from a zoo; but the base has to be run. Two adapters that do
the same thing by other weights have near vectors.

Shapes: B adapters, P questions, V words of the base, E width of a vector.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.stacked import stack_adapters, stacked_adapters
from lora_gen.conditioning.chat import Chat
from lora_gen.errors import ConfigError

BEHAVIOR_WIDTH = 512
PROBES = (
    "Maria Lopez",
    "user@mail.com",
    "red, green, blue",
    "The cat sat on 3 mats.",
    "/home/data/file.txt",
    "2024-05-17",
    "snake_case_name",
    "color=blue",
)
"""Questions of several kinds; other ones give other vectors."""
_AT_ONCE = 32


@torch.no_grad()
def behavior_signatures(
    model: nn.Module,
    chat: Chat,
    adapters: Sequence[Adapter],
    *,
    probes: Sequence[str] = PROBES,
) -> Tensor:
    """Unit vectors of the change of log-probabilities of the first word answered, (B, E).

    Args:
        model: The base, which is not changed.
        chat: How it is asked.
        adapters: Adapters for this base.
        probes: What it is asked.

    Raises:
        ConfigError: There are no probes.
        AdapterMismatchError: An adapter targets modules that the base does not have.
    """
    if not probes:
        raise ConfigError("`probes` is empty, so nothing is asked. Pass at least one question.")
    questions = [chat.question(text) for text in probes]
    lines = chat.pack([(ids, len(ids)) for ids in questions])
    last_P = torch.tensor([len(ids) - 1 for ids in questions])
    plain_PV = _answers(model, lines.input_ids, last_P)
    parts = []
    for start in range(0, len(adapters), _AT_ONCE):
        stacked = stack_adapters(adapters[start : start + _AT_ONCE])
        count = len(adapters[start : start + _AT_ONCE])
        with stacked_adapters(model, stacked):
            moved = _answers(model, lines.input_ids.repeat(count, 1), last_P.repeat(count))
        change_BF = (moved.view(count, *plain_PV.shape) - plain_PV).flatten(1)
        places_F, signs_F = _fold(change_BF.shape[1])
        folded_BE = torch.zeros(count, BEHAVIOR_WIDTH)
        folded_BE.index_add_(1, places_F, change_BF * signs_F)
        parts.append(nn.functional.normalize(folded_BE, dim=-1))
    return torch.cat(parts)


def _answers(model: nn.Module, input_ids_RT: Tensor, last_R: Tensor) -> Tensor:
    """Log-probabilities of the word after each question, (R, V)."""
    logits = model(input_ids=input_ids_RT, use_cache=False).logits
    found: Tensor = logits[torch.arange(len(last_R)), last_R].float().log_softmax(-1)
    return found.clamp_min(-12)  # beyond, a word is out of the question, however far


@lru_cache(maxsize=8)
def _fold(size: int) -> tuple[Tensor, Tensor]:
    """Places and signs of a count sketch."""
    digest = hashlib.blake2b(f"behavior/{size}".encode(), digest_size=7).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "big"))
    places = torch.randint(BEHAVIOR_WIDTH, (size,), generator=generator)
    signs = torch.randint(2, (size,), generator=generator).float() * 2 - 1
    return places, signs
