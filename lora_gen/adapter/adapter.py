"""One LoRA in memory: `LoraPair` for a module, `Adapter` for a base."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from torch import Tensor

from lora_gen.errors import AdapterMismatchError, AdapterValueError


@dataclass(frozen=True, kw_only=True)
class LoraPair:
    """The two factors of one module's update, `delta = scaling * B @ A`.

    A linear module (`nn.Linear`, GPT-2's `Conv1D`) has `lora_a` (R, in) and `lora_b` (out, R); a
    `Conv2d` has `lora_a` (R, in, kh, kw) and `lora_b` (out, R, 1, 1), PEFT's shapes.

    Raises:
        AdapterMismatchError: The factors do not share a rank, or their dimensions are not PEFT's.
    """

    lora_a: Tensor
    lora_b: Tensor
    scaling: float = 1.0
    is_embedding: bool = False
    """Whether the module is an `nn.Embedding`: A (R, vocabulary), B (width, R), transposed."""

    def __post_init__(self) -> None:
        a_shape, b_shape = tuple(self.lora_a.shape), tuple(self.lora_b.shape)
        if len(a_shape) not in (2, 4) or len(a_shape) != len(b_shape):
            raise AdapterMismatchError(
                f"`lora_A` has shape {a_shape} and `lora_B` {b_shape}; both must have 2 dimensions "
                "(linear) "
                "or both 4 (Conv2d)."
            )
        if a_shape[0] != b_shape[1]:
            raise AdapterMismatchError(
                f"`lora_A` has rank {a_shape[0]}, but `lora_B` has rank {b_shape[1]}. They must "
                "share one rank."
            )

    @property
    def rank(self) -> int:
        """LoRA rank R, zero padding included."""
        return int(self.lora_a.shape[0])

    @property
    def out_features(self) -> int:
        """Output features (or channels) of the module."""
        return int(self.lora_b.shape[0])

    @property
    def in_features(self) -> int:
        """Input width of the flattened factor: in, or in * kh * kw for a Conv2d."""
        return int(self.lora_a[0].numel())

    @property
    def is_conv(self) -> bool:
        """Whether the factors have a Conv2d's four dimensions."""
        return self.lora_a.dim() == 4

    def matrices(self) -> tuple[Tensor, Tensor]:
        """Both factors as matrices: A (R, in), B (out, R). Scaling is not applied."""
        return self.lora_a.flatten(1), self.lora_b.flatten(1)

    def with_matrices(self, lora_a: Tensor, lora_b: Tensor, *, scaling: float = 1.0) -> LoraPair:
        """A pair with the kernel shape of this one and new factors A (R', in), B (out, R')."""
        rank = lora_a.shape[0]
        if self.is_conv:
            lora_a = lora_a.reshape(rank, *self.lora_a.shape[1:])
            lora_b = lora_b.reshape(-1, rank, 1, 1)
        return replace(self, lora_a=lora_a, lora_b=lora_b, scaling=scaling)

    def folded(self) -> LoraPair:
        """The same delta weight with scaling 1, the factor moved into B."""
        if self.scaling == 1.0:
            return self
        return replace(self, lora_b=self.lora_b * self.scaling, scaling=1.0)


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """One LoRA for one base: module path -> pair, in sorted order.

    Module paths are those of the base's `named_modules()`; for a Diffusers base they begin with the
    component (`unet.`, `text_encoder.`).
    """

    pairs: Mapping[str, LoraPair]
    base: str | None = None
    base_revision: str | None = None
    task_type: str | None = None

    def __post_init__(self) -> None:
        ordered = {name: self.pairs[name] for name in sorted(self.pairs)}
        object.__setattr__(self, "pairs", MappingProxyType(ordered))

    @property
    def max_rank(self) -> int:
        """Largest rank over the modules; 0 for an adapter without modules."""
        return max((pair.rank for pair in self.pairs.values()), default=0)

    @property
    def num_parameters(self) -> int:
        """Number of values in all factors."""
        return sum(pair.lora_a.numel() + pair.lora_b.numel() for pair in self.pairs.values())


def require_finite(adapter: Adapter) -> None:
    """Check every factor.

    Raises:
        AdapterValueError: A factor holds NaN or infinity; the message names the tensor and the
            count.
    """
    for name, pair in adapter.pairs.items():
        for side, tensor in (("lora_A", pair.lora_a), ("lora_B", pair.lora_b)):
            bad = int((~torch.isfinite(tensor)).sum())
            if bad:
                raise AdapterValueError(
                    f"`{name}.{side}` has {bad} values of {tensor.numel()} that are NaN or "
                    "infinite. "
                    "Every value must be finite; train or export the adapter again."
                )
