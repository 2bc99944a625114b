"""Checks of an adapter against its base and against sane numbers, shared by all formats."""

from __future__ import annotations

import difflib
import math

import torch

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.base_model import BaseModelSpec
from lora_gen.errors import AdapterMismatchError, AdapterValueError
from lora_gen.strict_json import DEFAULT_LIMITS, Limits, printable


def require_base_fit(adapter: Adapter, base: BaseModelSpec) -> None:
    """Check that every module exists in `base` and has its shape.

    Embeddings are not part of a spec, so their shapes are not checked.

    Raises:
        AdapterMismatchError: A module is not in the base, or belongs to another size of it.
    """
    for name, pair in adapter.pairs.items():
        if pair.is_embedding:
            continue
        shape = base.modules.get(name)
        if shape is None:
            near = difflib.get_close_matches(name, base.modules, 1)
            raise AdapterMismatchError(
                f"{printable(name)} is not a module of the base `{base.id}`"
                + (f" (nearest is `{near[0]}`)" if near else "")
                + ". Name the base that the adapter was made for."
            )
        found = (tuple(pair.lora_a.shape), tuple(pair.lora_b.shape))
        wanted = shape.factor_shapes(pair.rank)
        if found != wanted:
            raise AdapterMismatchError(
                f"{printable(name)} has lora_A {found[0]} and lora_B {found[1]}, but the base "
                f"`{base.id}` needs "
                f"{wanted[0]} and {wanted[1]}. Name the base that the adapter was made for."
            )


def delta_norm(lora_a: torch.Tensor, lora_b: torch.Tensor, scaling: float) -> float:
    """Frobenius norm of scaling * B @ A, from r-by-r Gram matrices of A (R, in) and B (out, R)."""
    a_RI, b_OR = lora_a.double(), lora_b.double()
    squared = float(((a_RI @ a_RI.mT) * (b_OR.mT @ b_OR)).sum())
    return abs(scaling) * math.sqrt(squared) if squared > 0 else squared


def require_sane_delta(adapter: Adapter, limits: Limits = DEFAULT_LIMITS) -> None:
    """Check the size of each delta weight: finite factors can still have an absurd product.

    Raises:
        AdapterValueError: The norm of a delta weight is beyond `limits.delta_norm`.
    """
    for name, pair in adapter.pairs.items():
        norm = delta_norm(*pair.matrices(), pair.scaling)
        if not norm <= limits.delta_norm:
            raise AdapterValueError(
                f"{printable(name)} has a delta weight of norm {norm:.3g}, and at most "
                f"{limits.delta_norm:.3g} is "
                "read. Its values are damaged; export the adapter again."
            )
