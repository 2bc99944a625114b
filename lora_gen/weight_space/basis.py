"""A zoo in one shared basis: two frames a module for all adapters, and a small core for each.

delta_i is nearly U C_i V^T with U (out, P) and V (in, P) shared (Compress-then-Serve, 2024,
2407.00066). It pays where P * P is below rank * (out + in) and the zoo's adapters live in few
directions; `lost` says how far they do not.

Shapes: P directions of a side, M components of all adapters together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lora_gen.adapter.adapter import Adapter, LoraPair
from lora_gen.errors import AdapterMismatchError, AdapterValueError
from lora_gen.weight_space.factors import Factors, cut, factors_of, pair_like, svd_of

_CHUNK = 32
_SPARE = 4  # directions kept while adapters stream by, in multiples of the size


@dataclass(frozen=True, kw_only=True)
class SharedBasis:
    """Orthonormal frames of every module, both sides."""

    left: Mapping[str, Tensor]
    """Module -> (O, P)."""
    right: Mapping[str, Tensor]
    """Module -> (I, P)."""
    kinds: Mapping[str, LoraPair]
    """A pair of each module, for its shape; its values are not used."""

    @classmethod
    def fit(cls, adapters: Iterable[Adapter], size: int) -> SharedBasis:
        """The leading directions of all adapters' deltas, each adapter with norm 1.

        Adapters stream by in chunks, so memory does not grow with the zoo.

        Raises:
            AdapterValueError: `size` is below 1.
            AdapterMismatchError: There is no adapter.
        """
        if size < 1:
            raise AdapterValueError(f"`size` is {size}, and must be at least 1.")
        left: dict[str, Tensor] = {}
        right: dict[str, Tensor] = {}
        kinds: dict[str, LoraPair] = {}
        for chunk in _chunks(adapters):
            for name in sorted({name for adapter in chunk for name in adapter.pairs}):
                pairs = [adapter.pairs[name] for adapter in chunk if name in adapter.pairs]
                kinds.setdefault(name, pairs[0])
                found = [svd_of(factors_of(pair)) for pair in pairs]
                sides = [(u * s, v * s) for u, s, v in ((u, _unit(s), v) for u, s, v in found)]
                left[name] = _leading(left.get(name), [u for u, _ in sides], _SPARE * size)
                right[name] = _leading(right.get(name), [v for _, v in sides], _SPARE * size)
        if not kinds:
            raise AdapterMismatchError("There is no adapter to fit a basis to. Pass at least one.")
        frames = [
            {
                name: torch.linalg.svd(x, full_matrices=False)[0][:, :size]
                for name, x in side.items()
            }
            for side in (left, right)
        ]
        return cls(left=frames[0], right=frames[1], kinds=kinds)

    def encode(self, adapter: Adapter) -> dict[str, Tensor]:
        """The adapter's cores, module -> (P, P) float64.

        Raises:
            AdapterMismatchError: The adapter has a module that the basis was not fitted to.
        """
        foreign = sorted(set(adapter.pairs) - set(self.left))
        if foreign:
            raise AdapterMismatchError(
                f"`{foreign[0]}` is not in the basis. Fit it to adapters with the same modules."
            )
        cores = {}
        for name, pair in adapter.pairs.items():
            a_RI, b_OR = factors_of(pair)
            cores[name] = (self.left[name].mT @ b_OR) @ (a_RI @ self.right[name])
        return cores

    def decode(self, cores: Mapping[str, Tensor], like: Adapter, *, rank: int) -> Adapter:
        """The adapter that the cores stand for, at `rank`; base and task type are `like`'s."""
        pairs = {}
        for name, core_PP in cores.items():
            factors = Factors(core_PP.double() @ self.right[name].mT, self.left[name])
            pairs[name] = pair_like(self.kinds[name], cut(factors, rank).factors)
        return replace(like, pairs=pairs)

    def lost(self, adapter: Adapter) -> float:
        """Share of the adapter's squared norm outside the basis, 0 to 1."""
        inside = sum(float(core.square().sum()) for core in self.encode(adapter).values())
        total = sum(factors_of(pair).squared_norm() for pair in adapter.pairs.values())
        return max(0.0, 1 - inside / total) if total > 0 else 0.0

    def num_bytes(self, adapters: int, *, width: int = 2) -> int:
        """Bytes of the basis and of the cores of so many adapters, `width` bytes a value."""
        frames = sum(x.numel() for side in (self.left, self.right) for x in side.values())
        cores = sum(x.shape[1] ** 2 for x in self.left.values())
        return width * (frames + adapters * cores)


def _leading(kept: Tensor | None, fresh: Sequence[Tensor], count: int) -> Tensor:
    """The leading scaled directions of what was kept and what came, (O, at most count)."""
    columns_OM = torch.cat([*([kept] if kept is not None else []), *fresh], dim=1)
    u_OK, s_K, _ = torch.linalg.svd(columns_OM, full_matrices=False)
    leading_OK: Tensor = u_OK[:, :count] * s_K[:count]
    return leading_OK


def _unit(values_R: Tensor) -> Tensor:
    length = values_R.square().sum().sqrt()
    return values_R / length if float(length) > 0 else values_R


def _chunks(adapters: Iterable[Adapter]) -> Iterable[list[Adapter]]:
    chunk: list[Adapter] = []
    for adapter in adapters:
        chunk.append(adapter)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
