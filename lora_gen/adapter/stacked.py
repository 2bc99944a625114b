"""Many adapters on one frozen base at once: stacked factors, one batched matmul for all.

Rows of the base's batch are adapter-major: rows `i * P … (i + 1) * P - 1` belong to adapter `i` of
`B`. Nothing of the base is changed or copied; a forward hook on each target adds `(x A^T) B^T`.
Works for `nn.Linear`, GPT-2's `Conv1D` and `nn.Conv2d`, whose input is unfolded into its patches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lora_gen.adapter.adapter import Adapter
from lora_gen.errors import AdapterMismatchError

StackedFactors = Mapping[str, tuple[Tensor, Tensor]]
"""Module path -> A (B, R, I) and B (B, O, R), scaling folded into B; I is in * kh * kw of a
convolution."""


def stack_adapters(adapters: Sequence[Adapter]) -> dict[str, tuple[Tensor, Tensor]]:
    """Factors of several adapters as one stack, ranks zero-padded to the largest.

    A module that an adapter does not target gets zeros.

    Raises:
        AdapterMismatchError: Two adapters disagree on a module's shape.
    """
    modules: dict[str, tuple[int, int]] = {}
    for adapter in adapters:
        for name, pair in adapter.pairs.items():
            a_RI, b_OR = pair.matrices()
            shape = (b_OR.shape[0], a_RI.shape[1])
            if modules.setdefault(name, shape) != shape:
                raise AdapterMismatchError(
                    f"`{name}` has shape {shape} here and {modules[name]} in another "
                    "adapter of the stack. Stack only adapters of one base."
                )
    rank = max((adapter.max_rank for adapter in adapters), default=0)
    stacked = {}
    for name, (out_features, in_features) in modules.items():
        a_BRI = torch.zeros(len(adapters), rank, in_features)
        b_BOR = torch.zeros(len(adapters), out_features, rank)
        for i, adapter in enumerate(adapters):
            if name in adapter.pairs:
                pair = adapter.pairs[name]
                a_RI, b_OR = pair.matrices()
                a_BRI[i, : pair.rank] = a_RI.float()
                b_BOR[i, :, : pair.rank] = b_OR.float() * pair.scaling
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
        if isinstance(module, nn.Conv2d):
            x = _patches(module, x)
        x_BTI = x.reshape(adapters, -1, x.shape[-1])
        a, b = a_BRI.to(x_BTI.dtype), b_BOR.to(x_BTI.dtype)
        delta = torch.bmm(torch.bmm(x_BTI, a.mT), b.mT)
        if isinstance(module, nn.Conv2d):
            delta = delta.view(output.shape[0], -1, output.shape[1]).mT
        return output + delta.reshape(output.shape).to(output.dtype)

    return hook


def _patches(conv: nn.Conv2d, x_NCHW: Tensor) -> Tensor:
    """What each output pixel sees, (N, L, C * kh * kw), in the order of the flattened kernel."""
    unfolded = nn.functional.unfold(
        x_NCHW,
        conv.kernel_size,
        dilation=conv.dilation,
        padding=conv.padding,  # type: ignore[arg-type]  # a name such as "same" is not used
        stride=conv.stride,
    )
    return unfolded.mT
