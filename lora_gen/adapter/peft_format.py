"""Door to PEFT folders: `adapter_config.json` and `adapter_model.safetensors`, in and out.

What is read is checked against itself and, when given, against the base; a key that is missing or
unexpected is an error, where PEFT stays silent. What is written is read back before it is
published.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lora_gen.adapter.adapter import Adapter, LoraPair, require_finite
from lora_gen.adapter.base_model import (
    COMPONENTS,
    BaseModelSpec,
    matches_suffix,
    select_targets,
    shortest_suffixes,
)
from lora_gen.adapter.checks import require_base_fit, require_sane_delta
from lora_gen.adapter.factors import require_same
from lora_gen.adapter.peft_config import (
    CONFIG_NAME,
    WEIGHTS_NAME,
    PeftConfig,
    build_config,
    parse_config,
)
from lora_gen.adapter.peft_keys import adapter_tensors, parse_key
from lora_gen.adapter.profile import cast_factors, to_portable
from lora_gen.errors import (
    AdapterFormatError,
    AdapterMismatchError,
    UnsafeFileError,
)
from lora_gen.files import publish_folder
from lora_gen.safetensors_header import read_tensors, serialize_tensors
from lora_gen.strict_json import DEFAULT_LIMITS, Limits, printable, read_json

PROVENANCE_NAME = "lora_gen.json"
CARD_NAME = "README.md"

_PICKLES = ("adapter_model.bin", "adapter_model.pt", "adapter_model.pth")
_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def read_peft(
    folder: Path,
    *,
    base: BaseModelSpec | None = None,
    allow_embeddings: bool = False,
    limits: Limits = DEFAULT_LIMITS,
) -> Adapter:
    """The adapter in a PEFT folder, in the file's own dtype.

    Args:
        folder: Has `adapter_config.json` and `adapter_model.safetensors`; nothing else is opened.
        base: When given, every module must exist there with fitting shapes, and every targeted one
            be present.
        allow_embeddings: Accept LoRA on `nn.Embedding`, which few runtimes apply.
        limits: Bounds on the files.

    Raises:
        LoraGenError: One of the adapter errors; the sentence names the file, field or tensor.
    """
    config = parse_config(read_peft_config(folder, limits), limits)
    path = require_weights(folder)
    tensors, _ = read_tensors(path, limits)
    factors = _group_factors(tensors, allow_embeddings)
    if not factors:
        raise AdapterFormatError(f"`{path.name}` holds no LoRA tensors. Export the adapter again.")
    pairs = {
        name: _build_pair(name, found, config, is_embedding)
        for (name, is_embedding), found in factors.items()
    }
    adapter = Adapter(
        pairs=pairs, base=config.base, base_revision=config.revision, task_type=config.task_type
    )
    require_finite(adapter)
    require_sane_delta(adapter, limits)
    _require_targets(adapter, config, base)
    if base is not None:
        require_base_fit(adapter, base)
    return adapter


def read_peft_config(folder: Path, limits: Limits = DEFAULT_LIMITS) -> dict[str, Any]:
    """The raw config of a PEFT folder, bounded but not yet checked field by field."""
    return read_json(folder / CONFIG_NAME, limits=limits)


def require_weights(folder: Path) -> Path:
    """The folder's safetensors file.

    Raises:
        UnsafeFileError: There is only a pickle.
        AdapterFormatError: There is neither.
    """
    path = folder / WEIGHTS_NAME
    if path.is_file():
        return path
    pickle = next((name for name in _PICKLES if (folder / name).exists()), None)
    if pickle is not None:
        raise UnsafeFileError(
            f"`{folder}` has only `{pickle}`, a pickle, which is never opened. Convert it to "
            f"`{WEIGHTS_NAME}` where "
            "you trust it: load it with PEFT and call `save_pretrained`."
        )
    raise AdapterFormatError(
        f"`{folder}` has no `{WEIGHTS_NAME}`. Download the whole adapter folder."
    )


def _group_factors(
    tensors: Mapping[str, Tensor], allow_embeddings: bool
) -> dict[tuple[str, bool], dict[str, Tensor]]:
    """(module path, is it an embedding) -> side -> tensor."""
    factors: dict[tuple[str, bool], dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        module, side, is_embedding = parse_key(key, allow_embeddings)
        if tensor.dtype not in _FLOATS:
            raise AdapterFormatError(
                f"{printable(key)} is {tensor.dtype}, and must be floating point. Convert it first."
            )
        found = factors.setdefault((module, is_embedding), {})
        if side in found or (module, not is_embedding) in factors:
            raise AdapterFormatError(
                f"{printable(module)} has two lora_{side} tensors. Keep one adapter a file."
            )
        found[side] = tensor
    return factors


def _build_pair(
    module: str, found: Mapping[str, Tensor], config: PeftConfig, is_embedding: bool
) -> LoraPair:
    shown = printable(module)
    if len(found) < 2:
        present, missing = ("A", "B") if "A" in found else ("B", "A")
        raise AdapterMismatchError(
            f"{shown} has lora_{present} but no lora_{missing}. Export the adapter again."
        )
    try:
        pair = LoraPair(
            lora_a=found["A"],
            lora_b=found["B"],
            scaling=config.scaling_of(module),
            is_embedding=is_embedding,
        )
    except AdapterMismatchError as error:
        raise AdapterMismatchError(f"{shown}: {error}") from error
    if 0 in (pair.rank, pair.in_features, pair.out_features):
        raise AdapterMismatchError(
            f"{shown} has an empty dimension: lora_A {tuple(pair.lora_a.shape)}, lora_B "
            f"{tuple(pair.lora_b.shape)}. Export the adapter again."
        )
    if pair.is_conv and tuple(pair.lora_b.shape[2:]) != (1, 1):
        raise AdapterMismatchError(
            f"{shown} has lora_B {tuple(pair.lora_b.shape)}, and a Conv2d's ends in (1, 1)."
        )
    if pair.rank != config.rank_of(module):
        raise AdapterMismatchError(
            f"{shown} has rank {pair.rank} in its tensors, but rank {config.rank_of(module)} in "
            f"`{CONFIG_NAME}`. "
            "Take config and tensors from the same export."
        )
    return pair


def _require_targets(adapter: Adapter, config: PeftConfig, base: BaseModelSpec | None) -> None:
    """Tensors and `target_modules` name the same modules, as far as literal names can tell."""
    targets = config.target_modules
    if targets is not None:
        for name in adapter.pairs:
            if not any(matches_suffix(name, target) for target in targets):
                raise AdapterMismatchError(
                    f"{printable(name)} has tensors, but `target_modules` does not name it. Take "
                    "config and tensors "
                    "from the same export."
                )
    if base is None or config.narrowed or (targets is None and not config.all_linear):
        return
    expected = (
        {name for name in base.modules if any(matches_suffix(name, target) for target in targets)}
        if targets is not None
        else set(select_targets(base, "all-linear"))
    )
    missing = sorted(expected - set(adapter.pairs))
    if missing:
        raise AdapterMismatchError(
            f"{printable(missing[0])} is named by `target_modules` but has no tensors "
            f"({len(missing)} of "
            f"{len(expected)} modules are missing). The adapter is incomplete; export it again."
        )


def write_peft(
    adapter: Adapter,
    folder: Path,
    *,
    base: BaseModelSpec | None = None,
    exact: bool = False,
    dtype: torch.dtype | None = None,
    card: str | None = None,
    provenance: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Publish a PEFT folder, after reading back what was written.

    Args:
        adapter: What to write; the scaling goes into B, so that `lora_alpha == r`, unless `exact`.
        folder: Output folder.
        base: The base; with it the config lists short suffixes that select exactly these modules.
        exact: Keep ranks and scalings with patterns, instead of the portable profile.
        dtype: Dtype of the factors; by default their own (float64 becomes float32), so the delta
            weight is kept.
        card: Text of `README.md`; by default a short one.
        provenance: Content of `lora_gen.json`.
        overwrite: Replace an adapter folder that exists.

    Raises:
        AdapterValueError: A value is not finite, or overflows `dtype`.
        AdapterMismatchError: The adapter does not fit `base`, or its rank no portable rank.
        OutputPathError: The output exists, or is not ours to replace.
        StorageError: The disk refused.
    """
    require_finite(adapter)
    if not adapter.pairs:
        raise AdapterMismatchError("The adapter has no modules, so there is nothing to write.")
    if base is not None:
        require_base_fit(adapter, base)
        require_single_model(next(iter(adapter.pairs)), base)
        adapter = replace(
            adapter, base=adapter.base or base.id, task_type=adapter.task_type or base.task_type
        )
    if not exact:
        adapter = to_portable(adapter)
    adapter = cast_factors(adapter, dtype)
    config = _config_of(adapter, base)
    with publish_folder(folder, overwrite) as temp:
        (temp / WEIGHTS_NAME).write_bytes(
            serialize_tensors(adapter_tensors(adapter), {"format": "pt"})
        )
        (temp / CONFIG_NAME).write_text(json_text(config), encoding="utf-8")
        (temp / CARD_NAME).write_text(card or default_card(adapter), encoding="utf-8")
        if provenance is not None:
            (temp / PROVENANCE_NAME).write_text(json_text(provenance), encoding="utf-8")
        require_same(read_peft(temp, base=base, allow_embeddings=True), adapter)


def require_single_model(module: str, base: BaseModelSpec) -> None:
    """Check that `module` belongs to a base of one model.

    Raises:
        AdapterMismatchError: It is part of a pipeline of several.
    """
    first = module.split(".")[0]
    if base.kind == "diffusers" and first in COMPONENTS:
        raise AdapterMismatchError(
            f"`{first}` is one of several models of `{base.id}`, and a PEFT folder adapts one. "
            'Write it with `format="diffusers"`.'
        )


def default_card(adapter: Adapter) -> str:
    """A short model card with the metadata that the hub reads."""
    front = ["library_name: peft", "tags:", "- lora", "- lora_gen"]
    if adapter.base:
        front = [f"base_model: {json.dumps(adapter.base)}", *front]
    ranks = sorted({pair.rank for pair in adapter.pairs.values()})
    lines = [
        "---",
        *front,
        "---",
        "",
        "# LoRA adapter",
        "",
        f"A LoRA for `{adapter.base or 'an unnamed base'}`: {len(adapter.pairs)} modules, "
        f"rank {', '.join(map(str, ranks))}, {adapter.num_parameters:,} parameters.",
        "",
    ]
    return "\n".join(lines)


def _config_of(adapter: Adapter, base: BaseModelSpec | None) -> dict[str, Any]:
    known = base.modules if base is not None else {}
    types = {known[name].type for name in adapter.pairs if name in known}
    return build_config(
        # 12 digits: alpha = scaling * rank must come back the same after alpha / rank was read
        {n: (p.rank, float(f"{p.scaling * p.rank:.12g}")) for n, p in adapter.pairs.items()},
        target_modules=shortest_suffixes(list(adapter.pairs), known),
        fan_in_fan_out=types == {"conv1d"},
        base=adapter.base,
        revision=adapter.base_revision,
        task_type=adapter.task_type,
    )


def json_text(value: Mapping[str, Any]) -> str:
    """Indented JSON with sorted keys, for a file in an adapter's folder."""
    return json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n"
