"""Door to kohya files: one `.safetensors` with `lora_unet_…` keys, in and out.

A key writes `_` for every dot of the module path, so it cannot be taken apart. Every module of the
base is written as a key instead, in each spelling in use, and looked up.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.base_model import BaseModelSpec
from lora_gen.adapter.factors import (
    Factors,
    build_pair,
    checked,
    collect_factors,
    prepared,
    refuse_beyond_lora,
    require_same,
)
from lora_gen.adapter.kohya_names import PREFIXES, key_of, names_of
from lora_gen.adapter.profile import cast_factors
from lora_gen.errors import (
    AdapterFormatError,
    AdapterMismatchError,
    OutputPathError,
    StorageError,
)
from lora_gen.files import atomic_write_bytes
from lora_gen.safetensors_header import read_tensors, serialize_tensors
from lora_gen.strict_json import DEFAULT_LIMITS, Limits, printable

_KEY = re.compile(r"(?P<name>[^.]+)\.(?P<side>lora_down\.weight|lora_up\.weight|alpha)")
_SIDES = {"lora_down.weight": "A", "lora_up.weight": "B", "alpha": "alpha"}
_LYCORIS = "lycoris_"


def is_kohya(names: Collection[str]) -> bool:
    """Whether a file's keys are those of kohya's trainers or LyCORIS."""
    return any(name.startswith((*PREFIXES, _LYCORIS)) for name in names)


def read_kohya(
    path: Path, base: BaseModelSpec | None, *, limits: Limits = DEFAULT_LIMITS
) -> Adapter:
    """The adapter in a kohya file, in the file's own dtype.

    Args:
        path: The `.safetensors` file.
        base: Spec of the pipeline it was made for; it resolves the keys.
        limits: Bounds on the file.

    Raises:
        LoraGenError: One of the adapter errors; the sentence names the file or tensor.
    """
    if base is None:
        raise AdapterMismatchError(
            f"`{path.name}` has kohya keys, which only the base's own module paths can resolve. "
            "Pass `base`, the spec of the pipeline that it was made for."
        )
    tensors, _ = read_tensors(path, limits)
    factors = _collect(tensors, names_of(base.modules), base.id)
    for name, found in factors.items():
        _fit_kernel(found, base.modules[name].factor_shapes(1))
    pairs = {name: build_pair(name, found, limits) for name, found in factors.items()}
    return checked(Adapter(pairs=pairs), base, limits)


def _collect(
    tensors: Mapping[str, Tensor], names: Mapping[str, tuple[str, ...]], base: str
) -> Factors:
    def parse(key: str) -> tuple[str, str]:
        refuse_beyond_lora(key)
        match = _KEY.fullmatch(key)
        if match is None or not key.startswith(tuple(PREFIXES)):
            raise AdapterFormatError(
                f"{printable(key)} is no LoRA factor of kohya. Supported are keys that begin with "
                f"{', '.join(f'`{prefix}`' for prefix in PREFIXES)} and end in `lora_down.weight`, "
                "`lora_up.weight` or `alpha`."
            )
        modules = names.get(match["name"], ())
        if len(modules) != 1:
            state = f"means {len(modules)} modules" if modules else "is no module"
            raise AdapterMismatchError(
                f"{printable(match['name'])} {state} of the base `{base}`. Name the pipeline that "
                "the adapter was made for."
            )
        return modules[0], _SIDES[match["side"]]

    return collect_factors(tensors, parse)


def _fit_kernel(found: dict[str, Tensor], shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    """A linear layer and a 1x1 Conv2d are one map: SD 1 and SD 2 differ so in `proj_in`."""
    for side, shape in zip(("A", "B"), shapes, strict=True):
        tensor = found.get(side)
        if tensor is None or tensor.dim() == len(shape):
            continue
        if len(shape) == 2 and tensor.shape[2:] == (1, 1):
            found[side] = tensor.flatten(1)
        elif tensor.dim() == 2 and shape[2:] == (1, 1):
            found[side] = tensor[:, :, None, None]


def write_kohya(
    adapter: Adapter,
    path: Path,
    *,
    base: BaseModelSpec | None = None,
    exact: bool = False,
    dtype: torch.dtype | None = None,
    overwrite: bool = False,
) -> None:
    """Write a kohya file durably, for Diffusers, ComfyUI and the A1111 web UI.

    Args:
        adapter: What to write: modules of `unet` and text encoders.
        path: Output file, ending in `.safetensors`.
        base: When given, the adapter must fit it.
        exact: Keep ranks and scalings (as `alpha`), instead of the portable profile.
        dtype: Dtype of the factors; by default their own (float64 becomes float32).
        overwrite: Replace a file that exists.

    Raises:
        AdapterValueError: A value is not finite, or overflows `dtype`.
        AdapterMismatchError: A module has no kohya name, or does not fit `base`.
        OutputPathError: The output exists, or is no `.safetensors` file.
        StorageError: The disk refused.
    """
    _require_output(path, overwrite)
    adapter = cast_factors(prepared(adapter, base, exact), dtype)
    tensors = dict(_named_tensors(adapter))
    _require_readable(adapter, tensors)
    data = serialize_tensors(tensors, {"format": "pt"})
    atomic_write_bytes(path, data)
    if path.read_bytes() != data:
        raise StorageError(f"`{path}` reads back different from what was written. Write it again.")


def _require_output(path: Path, overwrite: bool) -> None:
    if path.suffix != ".safetensors":
        raise OutputPathError(f"`{path}` must end in `.safetensors`. Choose another output.")
    if path.is_symlink() or (os.path.lexists(path) and not path.is_file()):
        raise OutputPathError(f"`{path}` is no regular file to replace. Choose another output.")
    if path.exists() and not overwrite:
        raise OutputPathError(
            f"`{path}` exists already. Choose another output, or allow overwriting it."
        )


def _named_tensors(adapter: Adapter) -> Iterator[tuple[str, Tensor]]:
    two_encoders = any(name.startswith("text_encoder_2.") for name in adapter.pairs)
    for name, pair in adapter.pairs.items():
        key = None if pair.is_embedding else key_of(name, two_encoders)
        if key is None:
            raise AdapterMismatchError(
                f"{printable(name)} has no kohya name: only linear and Conv2d modules of `unet` "
                "and the text encoders have one. Write a Diffusers or PEFT folder."
            )
        yield f"{key}.lora_down.weight", pair.lora_a
        yield f"{key}.lora_up.weight", pair.lora_b
        yield f"{key}.alpha", torch.tensor(pair.scaling * pair.rank, dtype=torch.float32)


def _require_readable(adapter: Adapter, tensors: Mapping[str, Tensor]) -> None:
    """Check that the keys lead back to the modules: `a_b.c` and `a.b_c` would share one."""
    names = names_of(adapter.pairs, original=False)
    factors = _collect(tensors, names, adapter.base or "unnamed")
    pairs = {name: build_pair(name, found, DEFAULT_LIMITS) for name, found in factors.items()}
    require_same(Adapter(pairs=pairs), adapter)
