"""Tokens of a stretch of a layout, as the pieces of rows and columns that they hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from lora_gen.codec.layout import TokenLayout
from lora_gen.codec.scaling import TokenScaling


@dataclass(frozen=True, kw_only=True)
class FactorPiece:
    """Values next to each other in one row of A or one column of B."""

    module: str
    side: str
    """`A` or `B`."""
    component: int
    start: int
    """Place of the first value in its row or column."""
    values: Tensor


def factor_pieces(
    layout: TokenLayout, scaling: TokenScaling, tokens_nD: Tensor, first: int
) -> Iterator[FactorPiece]:
    """What the tokens from `first` on stand for; the pieces of a whole layout are an adapter.

    Args:
        layout: The adapter's layout.
        scaling: Scale of the tokens.
        tokens_nD: Clean tokens, (n, D + 1).
        first: Place of the first of them in the layout.
    """
    roles_n, _ = layout.window(first, first + len(tokens_nD))
    weights_nD = scaling.join(tokens_nD, roles_n.to(tokens_nD.device)).float()
    last = first + len(tokens_nD)
    for component in range(first // layout.tokens_per_component, layout.rank):
        begin = component * layout.tokens_per_component
        for module in layout.modules:
            for side, length in (("A", module.in_features), ("B", module.out_features)):
                end = begin + layout.chunks(length)
                low, high = max(begin, first), min(end, last)
                if low < high:
                    start = (low - begin) * layout.width
                    values = weights_nD[low - first : high - first].reshape(-1)
                    yield FactorPiece(
                        module=module.name,
                        side=side,
                        component=component,
                        start=start,
                        values=values[: length - start],
                    )
                begin = end
        if begin >= last:
            return
