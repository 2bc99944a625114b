"""Adapter <-> tokens, and tokens -> stacked factors; the only place where both worlds meet."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lora_gen.adapter.adapter import Adapter, LoraPair
from lora_gen.adapter.algebra import resize
from lora_gen.codec.canonical import canonicalize
from lora_gen.codec.layout import TokenLayout
from lora_gen.codec.scaling import TokenScaling
from lora_gen.errors import LayoutMismatchError


@dataclass(frozen=True, kw_only=True)
class AdapterCodec:
    """Maps adapters of one layout to tokens (N, D + 1) and back.

    Exact on canonical adapters up to rounding.
    """

    layout: TokenLayout
    scaling: TokenScaling

    def encode(self, adapter: Adapter) -> Tensor:
        """Tokens of the adapter's canonical form, (N, D + 1) float32.

        An adapter of lower rank is zero-padded.

        Raises:
            LayoutMismatchError: The adapter has other modules or shapes, or a larger rank, than the
                layout.
            AdapterValueError: A factor is not finite.
        """
        self._require_fit(adapter)
        chunks_ND = self.chunks(canonicalize(resize(adapter, self.layout.rank)))
        return self.scaling.split(chunks_ND, self.layout.value_mask, self.layout.slot_roles)

    def chunks(self, adapter: Adapter) -> Tensor:
        """The adapter's weights cut into slots, unscaled; (N, D) float32."""
        rows = []
        for module in self.layout.modules:
            a_RI, b_OR = adapter.pairs[module.name].folded().matrices()
            for matrix in (a_RI, b_OR.mT):
                count = self.layout.chunks(matrix.shape[1])
                padding = count * self.layout.width - matrix.shape[1]
                padded = torch.nn.functional.pad(matrix.float(), (0, padding))
                rows.append(padded.view(self.layout.rank, count, self.layout.width))
        return torch.cat(rows, 1).flatten(0, 1)

    def factors(self, tokens_BND: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Factors of a batch of tokens, differentiable: module -> A (B, R, I), B (B, O, R).

        Raises:
            LayoutMismatchError: The tokens do not have the layout's number or width.
        """
        layout = self.layout
        expected = (layout.num_tokens, layout.width + 1)
        if tuple(tokens_BND.shape[1:]) != expected:
            raise LayoutMismatchError(
                f"`tokens` have shape {tuple(tokens_BND.shape[1:])}, but the layout needs "
                f"{expected}. Build the layout for the rank and targets that the tokens were made "
                "for."
            )
        weights_BND = self.scaling.join(tokens_BND, layout.slot_roles.to(tokens_BND.device))
        batch = tokens_BND.shape[0]
        grid_BRSD = weights_BND.view(batch, layout.rank, layout.tokens_per_component, layout.width)
        found, start = {}, 0
        for module in layout.modules:
            sides = []
            for length in (module.in_features, module.out_features):
                count = layout.chunks(length)
                part = grid_BRSD[:, :, start : start + count].flatten(2)
                sides.append(part[..., :length])
                start += count
            found[module.name] = (sides[0], sides[1].mT)
        return found

    def decode(
        self, tokens_ND: Tensor, *, base: str | None = None, task_type: str | None = None
    ) -> Adapter:
        """The adapter that one token array (N, D + 1) stands for.

        Raises:
            LayoutMismatchError: The tokens do not have the layout's number or width.
        """
        pairs = {}
        factors = self.factors(tokens_ND[None])
        for module in self.layout.modules:
            a_RI, b_OR = (
                factor[0].detach().float().contiguous() for factor in factors[module.name]
            )
            if module.kernel is not None:
                a_RI = a_RI.view(self.layout.rank, -1, *module.kernel)
                b_OR = b_OR[:, :, None, None]
            pairs[module.name] = LoraPair(lora_a=a_RI, lora_b=b_OR)
        return Adapter(pairs=pairs, base=base, task_type=task_type)

    def _require_fit(self, adapter: Adapter) -> None:
        names = {module.name for module in self.layout.modules}
        odd = sorted(names ^ set(adapter.pairs))
        if odd:
            where = "missing from the adapter" if odd[0] in names else "not in the layout"
            raise LayoutMismatchError(
                f"`{odd[0]}` is {where} ({len(odd)} modules differ). "
                "Build the layout for the adapter's target modules."
            )
        if adapter.max_rank > self.layout.rank:
            raise LayoutMismatchError(
                f"`adapter` has rank {adapter.max_rank}, but this layout was built for rank "
                f"{self.layout.rank}. Pass `rank={adapter.max_rank}` or truncate the adapter first."
            )
        for module in self.layout.modules:
            pair = adapter.pairs[module.name]
            if (pair.out_features, pair.in_features) != (module.out_features, module.in_features):
                raise LayoutMismatchError(
                    f"`{module.name}` is {pair.out_features} x {pair.in_features} in the adapter, "
                    f"but {module.out_features} x {module.in_features} in the layout. "
                    "The adapter belongs to another base."
                )
