"""What the modules of a base read while it answers under an adapter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lora_gen.adapter.stacked import StackedFactors, stacked_adapters
from lora_gen.conditioning.chat import Lines


@torch.no_grad()
def module_inputs(
    model: nn.Module,
    lines: Lines,
    factors: StackedFactors,
    *,
    modules: Iterable[str] | None = None,
    limit: int = 128,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Module path -> what it reads on `lines` under one adapter, (tokens, in).

    Args:
        model: The frozen base.
        lines: Questions with answers.
        factors: A stack of one adapter.
        modules: Which modules to listen at; those that the adapter changes by default.
        limit: Tokens kept, drawn at random and the same for all modules.
        seed: Draws them.
    """
    found: dict[str, Tensor] = {}
    with stacked_adapters(model, factors), _listening(model, modules or factors, found):
        model(input_ids=lines.input_ids, use_cache=False)
    used_T = _used(lines).flatten().nonzero()[:, 0]
    source = torch.Generator().manual_seed(seed)
    chosen_T = used_T[torch.randperm(len(used_T), generator=source)[:limit]]
    return {name: x.flatten(0, -2)[chosen_T] for name, x in found.items()}


def _used(lines: Lines) -> Tensor:
    """Positions up to each line's last answer token; what follows is padding."""
    answered_BT = lines.labels >= 0
    last_B = answered_BT.shape[1] - answered_BT.flip(1).int().argmax(1)
    return torch.arange(answered_BT.shape[1])[None] < last_B[:, None]


@contextmanager
def _listening(model: nn.Module, names: Iterable[str], found: dict[str, Tensor]) -> Iterator[None]:
    modules = dict(model.named_modules())

    def hook(name: str):  # type: ignore[no-untyped-def]
        def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            found[name] = inputs[0].detach()

        return keep

    handles = [modules[name].register_forward_pre_hook(hook(name)) for name in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
