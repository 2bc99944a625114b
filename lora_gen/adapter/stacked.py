"""Many adapters on one frozen base at once: stacked factors, one batched matmul for all.

Rows of the base's batch are adapter-major: rows `i * P … (i + 1) * P - 1` belong to adapter `i` of
`B`. Nothing of the base is changed or copied; a forward hook on each target adds `(x A^T) B^T`.
Works for `nn.Linear` and GPT-2's `Conv1D`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lora_gen.adapter.adapter import Adapter
from lora_gen.errors import AdapterMismatchError

StackedFactors = Mapping[str, tuple[Tensor, Tensor]]
"""Module path -> A (B, R, I) and B (B, O, R), scaling folded into B."""


def stack_adapters(adapters: Sequence[Adapter]) -> dict[str, tuple[Tensor, Tensor]]:
    """Factors of several adapters as one stack, ranks zero-padded to the largest.

    A module that an adapter does not target gets zeros. Linear modules only.

    Raises:
        AdapterMismatchError: Two adapters disagree on a module's shape, or a module is a
            convolution.
    """
    modules: dict[str, tuple[int, int]] = {}
    for adapter in adapters:
        for name, pair in adapter.pairs.items():
            shape = (pair.out_features, pair.in_features)
            if pair.is_conv or modules.setdefault(name, shape) != shape:
                raise AdapterMismatchError(
                    f"`{name}` has shape {shape} here and {modules.get(name, shape)} in another "
                    "adapter of the stack, or is a convolution. "
                    "Stack only linear adapters of one base."
                )
    rank = max((adapter.max_rank for adapter in adapters), default=0)
    stacked = {}
    for name, (out_features, in_features) in modules.items():
        a_BRI = torch.zeros(len(adapters), rank, in_features)
        b_BOR = torch.zeros(len(adapters), out_features, rank)
        for i, adapter in enumerate(adapters):
            if name in adapter.pairs:
                pair = adapter.pairs[name]
                a_BRI[i, : pair.rank] = pair.lora_a.float()
                b_BOR[i, :, : pair.rank] = pair.lora_b.float() * pair.scaling
        stacked[name] = (a_BRI, b_BOR)
    return stacked


@contextmanager
def stacked_adapters(model: nn.Module, factors: StackedFactors) -> Iterator[None]:
    """Apply the stack inside the `with` block; gradients flow into the factors.

    Raises:
        AdapterMismatchError: A module is not in the model, or the batch is not a multiple of the
            number of adapters.
    """
    modules = dict(model.named_modules())
    missing = sorted(set(factors) - set(modules))
    if missing:
        raise AdapterMismatchError(
            f"`{missing[0]}` is not a module of the base ({len(missing)} of {len(factors)} targets "
            "are missing). Use an adapter made for this base."
        )
    handles = [
        modules[name].register_forward_hook(_delta_hook(name, a_BRI, b_BOR))
        for name, (a_BRI, b_BOR) in factors.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _delta_hook(name: str, a_BRI: Tensor, b_BOR: Tensor):  # type: ignore[no-untyped-def]
    adapters = a_BRI.shape[0]

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        x = inputs[0]
        if x.shape[0] % adapters:
            raise AdapterMismatchError(
                f"`{name}` got {x.shape[0]} rows for {adapters} adapters. "
                "The batch must hold the same number of rows for each."
            )
        x_BTI = x.reshape(adapters, -1, x.shape[-1])
        a, b = a_BRI.to(x_BTI.dtype), b_BOR.to(x_BTI.dtype)
        delta = torch.bmm(torch.bmm(x_BTI, a.mT), b.mT)
        return output + delta.view(output.shape).to(output.dtype)

    return hook
