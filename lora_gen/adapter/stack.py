"""Many adapters side by side: one pair of matrix products a module compares all of them.

Shapes: M rows of one adapter's rank in a stack, that is adapters times rank.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lora_gen.adapter.adapter import Adapter, LoraPair
from lora_gen.errors import AdapterMismatchError


class AdapterStack:
    """The factors of many adapters, laid out once to be compared with others as often as wanted.

    Args:
        adapters: What is stacked; a module that one of them lacks counts as a zero delta.
        dtype: Of the factors that are kept; sums over them are float64.

    Raises:
        AdapterMismatchError: Adapters disagree on the shape of a module.
    """

    def __init__(self, adapters: Sequence[Adapter], *, dtype: torch.dtype = torch.float64) -> None:
        self._size = len(adapters)
        self._kinds: dict[str, LoraPair] = {}
        self._modules: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
        for name in sorted({name for adapter in adapters for name in adapter.pairs}):
            pairs = [adapter.pairs[name] for adapter in adapters if name in adapter.pairs]
            require_same_module(name, pairs)
            self._kinds[name] = pairs[0]
            self._modules[name] = stacked_factors(name, adapters, dtype=dtype)

    def __len__(self) -> int:
        return self._size

    def inner_products(self, other: AdapterStack) -> Tensor:
        """Frobenius inner products of the delta weights, (len(self), len(other)) float64.

        The entries of (A @ A'.T) * (B.T @ B') summed over each adapter's rows and columns are the
        inner products.

        Raises:
            AdapterMismatchError: The stacks disagree on the shape of a module.
        """
        gram_BB = torch.zeros(len(self), len(other), dtype=torch.float64)
        for name in sorted(self._modules.keys() & other._modules.keys()):
            require_same_module(name, [self._kinds[name], other._kinds[name]])
            a_MI, b_OM, rows_M = self._modules[name]
            other_a_MI, other_b_OM, columns_M = other._modules[name]
            core_MM = ((a_MI @ other_a_MI.mT) * (b_OM.mT @ other_b_OM)).cpu().double()
            rows_BM = torch.zeros(len(self), core_MM.shape[1], dtype=torch.float64)
            rows_BM.index_add_(0, rows_M, core_MM)
            gram_BB.index_add_(1, columns_M, rows_BM)
        return gram_BB


def stacked_factors(
    name: str, adapters: Sequence[Adapter], *, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    """One module's factors side by side, scaling in B: A (M, in), B (out, M) and owner (M,).

    `owner` is the number of the adapter that each of the M components belongs to.
    """
    owners = [i for i, adapter in enumerate(adapters) if name in adapter.pairs]
    pairs = [adapters[i].pairs[name] for i in owners]
    owner_M = torch.cat([torch.full((p.rank,), i) for i, p in zip(owners, pairs, strict=True)])
    factors = [factors_of(pair, dtype=dtype) for pair in pairs]
    a_MI = torch.cat([a_RI for a_RI, _ in factors])
    return a_MI, torch.cat([b_OR for _, b_OR in factors], dim=1), owner_M


def factors_of(pair: LoraPair, *, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """A (R, in) and B (out, R), the scaling in B."""
    a_RI, b_OR = pair.matrices()
    return a_RI.detach().to(dtype), b_OR.detach().to(dtype) * pair.scaling


def require_same_module(name: str, pairs: Sequence[LoraPair]) -> None:
    """Refuse pairs of different shapes.

    Raises:
        AdapterMismatchError: They disagree.
    """
    kinds = {
        (tuple(p.lora_a.shape[1:]), p.out_features, p.is_embedding): tuple(p.lora_a.shape[1:])
        for p in pairs
    }
    if len(kinds) > 1:
        raise AdapterMismatchError(
            f"`{name}` has different shapes in the adapters "
            f"({', '.join(map(str, kinds.values()))}). They belong to "
            "different bases."
        )
