"""From the tensors of one file to the pairs of an adapter, shared by the single-file formats."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from lora_gen.adapter.adapter import Adapter, LoraPair, require_finite
from lora_gen.adapter.base_model import BaseModelSpec
from lora_gen.adapter.checks import require_base_fit, require_sane_delta
from lora_gen.adapter.profile import to_portable
from lora_gen.errors import (
    AdapterConfigError,
    AdapterFormatError,
    AdapterLimitError,
    AdapterMismatchError,
    AdapterValueError,
    StorageError,
)
from lora_gen.strict_json import Limits, printable

Factors = dict[str, dict[str, Tensor]]
"""Module path -> `A`, `B` and `alpha` as the file has them."""

_REFUSED: Mapping[str, str] = {
    r"lora_magnitude_vector|dora_scale": "DoRA's magnitude: extract a LoRA with PEFT's "
    "`save_as_lora`",
    r"\.hada_": "a LoHa factor: extract a LoRA with PEFT's `save_as_lora`",
    r"\.lokr_": "a LoKr factor: extract a LoRA with PEFT's `save_as_lora`",
    r"\.oft_": "an OFT rotation, which is no low-rank update: train a LoRA",
    r"\.lora_mid\.": "a Tucker core of LyCORIS: train with `use_tucker=False`",
    r"\.bias$|\.diff_b$": "a bias, which is no LoRA update: train without biases",
    r"\.diff$": "a full difference of weights: extract a LoRA from it",
}
_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def refuse_beyond_lora(key: str) -> None:
    """Check that a key is not of another method than plain LoRA.

    Raises:
        AdapterConfigError: It is; the message says of which, and what to do.
    """
    advice = next((text for part, text in _REFUSED.items() if re.search(part, key)), None)
    if advice is not None:
        raise AdapterConfigError(f"{printable(key)} is {advice}. Supported is plain LoRA only.")


def collect_factors(
    tensors: Mapping[str, Tensor], parse: Callable[[str], tuple[str, str]]
) -> Factors:
    """The tensors of each module, by the format's own `parse`.

    Raises:
        AdapterFormatError: A tensor is not floating point, or a module has two of one kind.
    """
    factors: Factors = {}
    for key, tensor in tensors.items():
        module, side = parse(key)
        if tensor.dtype not in _FLOATS and side != "alpha":
            raise AdapterFormatError(
                f"{printable(key)} is {tensor.dtype}, and must be floating point. Convert it first."
            )
        found = factors.setdefault(module, {})
        if side in found:
            raise AdapterFormatError(
                f"{printable(module)} has two {side} tensors, the second is {printable(key)}. Keep "
                "one adapter a file."
            )
        found[side] = tensor
    return factors


def build_pair(module: str, found: Mapping[str, Tensor], limits: Limits) -> LoraPair:
    """The pair of a module; without alpha the scaling is 1, as every loader of these files reads.

    Raises:
        AdapterMismatchError: A factor is missing, or the shapes are not those of a LoRA.
        AdapterLimitError: The rank or alpha is beyond `limits`.
        AdapterValueError: The alpha is no finite number above 0.
    """
    shown = printable(module)
    missing = [side for side in ("A", "B") if side not in found]
    if missing:
        present = ", ".join(f"`{side}`" for side in sorted(found))
        raise AdapterMismatchError(
            f"{shown} has {present} but no `{missing[0]}`. Export the adapter again."
        )
    try:
        pair = LoraPair(lora_a=found["A"], lora_b=found["B"])
    except AdapterMismatchError as error:
        raise AdapterMismatchError(f"{shown}: {error}") from error
    if 0 in (pair.rank, pair.in_features, pair.out_features):
        raise AdapterMismatchError(f"{shown} has an empty dimension. Export the adapter again.")
    if pair.is_conv and tuple(pair.lora_b.shape[2:]) != (1, 1):
        raise AdapterMismatchError(
            f"{shown} has B of shape {tuple(pair.lora_b.shape)}, and a Conv2d's ends in (1, 1)."
        )
    if pair.rank > limits.rank:
        raise AdapterLimitError(f"{shown} has rank {pair.rank}, and at most {limits.rank} is read.")
    if "alpha" not in found:
        return pair
    return replace(pair, scaling=_alpha_of(shown, found["alpha"], limits) / pair.rank)


def _alpha_of(shown: str, tensor: Tensor, limits: Limits) -> float:
    if tensor.numel() != 1:
        raise AdapterMismatchError(
            f"{shown} has an alpha of shape {tuple(tensor.shape)}, and an alpha is one number."
        )
    alpha = float(tensor)
    if not (math.isfinite(alpha) and alpha > 0):
        raise AdapterValueError(f"{shown} has alpha {alpha:g}, which must be finite and above 0.")
    if alpha > limits.alpha:
        raise AdapterLimitError(
            f"{shown} has alpha {alpha:g}, and at most {limits.alpha:g} is read."
        )
    return alpha


def checked(adapter: Adapter, base: BaseModelSpec | None, limits: Limits) -> Adapter:
    """The adapter, after its values and, where given, its base were checked.

    Raises:
        AdapterValueError: A value is not finite, or a delta weight absurd.
        AdapterMismatchError: A module does not fit `base`.
    """
    require_finite(adapter)
    require_sane_delta(adapter, limits)
    if base is None:
        return adapter
    require_base_fit(adapter, base)
    return replace(adapter, base=adapter.base or base.id)


def prepared(adapter: Adapter, base: BaseModelSpec | None, exact: bool) -> Adapter:
    """The checked adapter in the form to write: portable, unless `exact`.

    Raises:
        AdapterValueError: A value is not finite.
        AdapterMismatchError: It is empty, does not fit `base`, or has no portable form.
    """
    require_finite(adapter)
    if not adapter.pairs:
        raise AdapterMismatchError("The adapter has no modules, so there is nothing to write.")
    if base is not None:
        require_base_fit(adapter, base)
        adapter = replace(adapter, base=adapter.base or base.id)
    return adapter if exact else to_portable(adapter)


def require_same(read: Adapter, written: Adapter) -> None:
    """Check that an adapter came back as it was written.

    Raises:
        StorageError: It did not; the message names the module.
    """
    if set(read.pairs) != set(written.pairs):
        name = sorted(set(read.pairs) ^ set(written.pairs))[0]
        raise StorageError(f"{printable(name)} is not in both what was written and read back.")
    for name, pair in written.pairs.items():
        back = read.pairs[name]
        if not (
            torch.equal(back.lora_a, pair.lora_a)
            and torch.equal(back.lora_b, pair.lora_b)
            and math.isclose(back.scaling, pair.scaling, rel_tol=1e-6)
        ):
            raise StorageError(f"{printable(name)} reads back different from what was written.")
