"""Which slice of which module is token n: the layout, its JSON form and its slot features."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from lora_gen.adapter.base_model import BaseModelSpec, select_targets
from lora_gen.codec.roles import ROLES, role_of
from lora_gen.errors import LayoutMismatchError

NUM_NUMERIC_FEATURES = 46
_FOURIER_BANDS = 4


@dataclass(frozen=True, kw_only=True)
class ModuleSlots:
    """One module as the layout sees it."""

    name: str
    out_features: int
    in_features: int
    """Width of a row of A; in * kh * kw for a Conv2d."""
    kernel: tuple[int, int] | None
    role: str
    depth: float
    """Position of its layer in the base, 0 (first) to 1 (last)."""


@dataclass(frozen=True, kw_only=True)
class TokenLayout:
    """The fixed order of tokens for one base, target set and rank.

    Tokens are ordered by LoRA component first, then module, then side (A, B), then chunk: the
    tokens of a rank-2 adapter are the first half of those of a rank-4 adapter. Each token is one
    chunk of `width` values of one row of A or column of B.
    """

    modules: tuple[ModuleSlots, ...]
    rank: int
    width: int

    @classmethod
    def build(
        cls,
        spec: BaseModelSpec,
        *,
        rank: int,
        width: int,
        targets: str | Sequence[str] = "all-linear",
    ) -> TokenLayout:
        """Layout of a base.

        Args:
            spec: The base.
            rank: LoRA rank, at least 1.
            width: Values in a token.
            targets: As in `select_targets`.

        Raises:
            LayoutMismatchError: `rank` is not between 1 and 512.
            BaseModelError: `targets` selects nothing in the base.
        """
        if isinstance(rank, bool) or not isinstance(rank, int) or not 1 <= rank <= 512:
            raise LayoutMismatchError(
                f"`rank` must be between 1 and 512, but is {rank!r:.80}. Pass a rank such as 4."
            )
        names = select_targets(spec, targets)
        depths = layer_depths(names)
        modules = []
        for name in names:
            shape = spec.modules[name]
            kernel_size = math.prod(shape.kernel) if shape.kernel else 1
            modules.append(
                ModuleSlots(
                    name=name,
                    out_features=shape.out_features,
                    in_features=shape.in_features * kernel_size,
                    kernel=shape.kernel,
                    role=role_of(name),
                    depth=depths[name],
                )
            )
        return cls(modules=tuple(modules), rank=rank, width=width)

    @cached_property
    def tokens_per_component(self) -> int:
        """Tokens of one LoRA component over all modules."""
        return sum(self.chunks(m.in_features) + self.chunks(m.out_features) for m in self.modules)

    @property
    def num_tokens(self) -> int:
        """N, tokens of a whole adapter."""
        return self.tokens_per_component * self.rank

    def chunks(self, length: int) -> int:
        """Tokens that a row of `length` values needs."""
        return -(-length // self.width)

    def with_rank(self, rank: int) -> TokenLayout:
        """The same modules at another rank."""
        return TokenLayout(modules=self.modules, rank=rank, width=self.width)

    @cached_property
    def slot_roles(self) -> Tensor:
        """Index of each token's role and side, `2 * role + side`; (N,) int64."""
        return self.window(0, self.num_tokens)[0]

    @cached_property
    def slot_features(self) -> Tensor:
        """What else describes each token, as Fourier features; (N, NUM_NUMERIC_FEATURES) float32.

        Depth, component, chunk position, the module's widths and the size of the base: nothing in
        it names a base, so that one generator serves any rank, target set and model.
        """
        return self.window(0, self.num_tokens)[1]

    def window(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """`slot_roles` and `slot_features` of the tokens from `start` to `stop` alone."""
        roles_S, table_S7 = self._component
        token_n = torch.arange(start, stop)
        slot_n = token_n % self.tokens_per_component
        component_n = (token_n // self.tokens_per_component).float()
        return roles_S[slot_n], _features(table_S7[slot_n], component_n)

    @cached_property
    def _component(self) -> tuple[Tensor, Tensor]:
        """Role and numbers of each slot of one LoRA component, (S,) and (S, 7)."""
        layers = len({m.depth for m in self.modules})
        rows = [
            (
                2 * ROLES.index(m.role) + side,
                (m.depth, chunk / max(1, count - 1), chunk, count, length, other, layers),
            )
            for m in self.modules
            for side, (length, other) in enumerate(
                ((m.in_features, m.out_features), (m.out_features, m.in_features))
            )
            for count in (self.chunks(length),)
            for chunk in range(count)
        ]
        roles_S = torch.tensor([role for role, _ in rows])
        return roles_S, torch.tensor([numbers for _, numbers in rows], dtype=torch.float32)

    @cached_property
    def value_mask(self) -> Tensor:
        """1 where a token holds weights, 0 where a short row was padded; (N, width)."""
        rows = []
        for module in self.modules:
            for length in (module.in_features, module.out_features):
                mask = torch.zeros(self.chunks(length) * self.width)
                mask[:length] = 1
                rows.append(mask.view(-1, self.width))
        return torch.cat(rows).repeat(self.rank, 1)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {"version": 1, **asdict(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TokenLayout:
        """Read the JSON form.

        Raises:
            LayoutMismatchError: It is not a layout of this version.
        """
        if data.get("version") != 1:
            raise LayoutMismatchError(
                f"`layout` has version {data.get('version')}, but this library reads version 1. "
                "Build the layout again."
            )
        modules = tuple(
            ModuleSlots(**{**m, "kernel": tuple(m["kernel"]) if m["kernel"] else None})
            for m in data["modules"]
        )
        return cls(modules=modules, rank=int(data["rank"]), width=int(data["width"]))


def layer_depths(names: Sequence[str]) -> dict[str, float]:
    """Layer number of each module over the largest; modules without a number lie at 0."""
    numbers = {name: [int(n) for n in re.findall(r"(?:^|\.)(\d+)(?=\.|$)", name)] for name in names}
    last = max((n[0] for n in numbers.values() if n), default=0)
    return {name: n[0] / max(1, last) if n else 0.0 for name, n in numbers.items()}


def _features(table_N7: Tensor, component_N: Tensor) -> Tensor:
    depth, position, chunk, count, length, other, layers = table_N7.unbind(1)
    waves = [depth, position, component_N / 8, chunk / 16]
    bands = 2.0 ** torch.arange(_FOURIER_BANDS) * math.pi
    columns = [f(wave[:, None] * bands) for wave in waves for f in (torch.sin, torch.cos)]
    first_components = (component_N[:, None] == torch.arange(4)).float()
    first_chunks = (chunk[:, None] == torch.arange(3)).float()
    sizes = [(size.log2() / 8 - 1)[:, None] for size in (length, other, layers)]
    plain = [depth[:, None], position[:, None], component_N[:, None] / 8, count[:, None] / 16]
    return torch.cat([*columns, first_components, first_chunks, *sizes, *plain], 1)
