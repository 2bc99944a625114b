"""Door to PEFT folders: `adapter_config.json` and `adapter_model.safetensors`, in and out.

What is read is checked against itself and, when given, against the base; a key that is missing or unexpected is an
error, where PEFT stays silent. What is written is read back before it is published.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lora_gen.adapter.adapter import Adapter, LoraPair, require_finite
from lora_gen.adapter.base_model import BaseModelSpec, matches_suffix, select_targets
from lora_gen.adapter.checks import require_base_fit, require_sane_delta
from lora_gen.adapter.peft_config import (
    CONFIG_NAME,
    WEIGHTS_NAME,
    PeftConfig,
    build_config,
    parse_config,
)
from lora_gen.adapter.portable import to_portable
from lora_gen.errors import (
    AdapterConfigError,
    AdapterFormatError,
    AdapterLimitError,
    AdapterMismatchError,
    AdapterValueError,
    StorageError,
    UnsafeFileError,
)
from lora_gen.files import publish_folder
from lora_gen.safetensors_header import read_tensors, serialize_tensors
from lora_gen.strict_json import DEFAULT_LIMITS, Limits, printable, read_json

PROVENANCE_NAME = "lora_gen.json"
CARD_NAME = "README.md"
PREFIX = "base_model.model."

_PICKLES = ("adapter_model.bin", "adapter_model.pt", "adapter_model.pth")
_KEY = re.compile(
    r"(?P<module>.+)\.(?:lora_(?P<side>[AB])(?:\.(?!weight$)[A-Za-z0-9_-]+)?\.weight"
    r"|lora_embedding_(?P<table>[AB])(?:\.[A-Za-z0-9_-]+)?)"
)
_REFUSED_KEYS: tuple[tuple[str, str], ...] = (
    ("lora_magnitude_vector", "DoRA's magnitude: extract a LoRA with PEFT's `save_as_lora`"),
    ("lora_B.bias", "a bias on B: train with `lora_bias=False`"),
    ("base_layer.weight", "a weight of the base: save again with `save_embedding_layers=False`"),
    ("token_adapter", "trained tokens: train without `trainable_token_indices`"),
    (".experts.lora_", "a LoRA on MoE expert parameters: train on dense modules"),
    ("hada_", "a LoHa factor: extract a LoRA with PEFT's `save_as_lora`"),
    ("lokr_", "a LoKr factor: extract a LoRA with PEFT's `save_as_lora`"),
    ("lora_down", "a kohya or Diffusers key: pass that file itself to `load_adapter`"),
    ("lora.down", "a kohya or Diffusers key: pass that file itself to `load_adapter`"),
)
_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


@dataclass(frozen=True, kw_only=True)
class _Factors:
    """The tensors found for one module."""

    lora_a: Tensor | None = None
    lora_b: Tensor | None = None
    is_embedding: bool = False


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
        base: When given, every module must exist there with fitting shapes, and every targeted one be present.
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
    pairs = {name: _build_pair(name, found, config, limits) for name, found in factors.items()}
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
            f"`{folder}` has only `{pickle}`, a pickle, which is never opened. Convert it to `{WEIGHTS_NAME}` where "
            "you trust it: load it with PEFT and call `save_pretrained`."
        )
    raise AdapterFormatError(
        f"`{folder}` has no `{WEIGHTS_NAME}`. Download the whole adapter folder."
    )


def _group_factors(tensors: Mapping[str, Tensor], allow_embeddings: bool) -> dict[str, _Factors]:
    factors: dict[str, _Factors] = {}
    for key, tensor in tensors.items():
        match = _KEY.fullmatch(key.removeprefix(PREFIX))
        refused = next((advice for part, advice in _REFUSED_KEYS if part in key), None)
        if match is None or refused is not None:
            reason = (
                f"is {refused}"
                if refused
                else "is no LoRA factor, perhaps of a module saved in full"
            )
            raise AdapterConfigError(
                f"{printable(key)} {reason}. Supported are lora_A and lora_B weights only."
            )
        if match["table"] and not allow_embeddings:
            raise AdapterConfigError(
                f"{printable(key)} adapts an embedding, which few runtimes apply. Pass `allow_embeddings=True` to "
                "read it anyway."
            )
        if tensor.dtype not in _FLOATS:
            raise AdapterFormatError(
                f"{printable(key)} is {tensor.dtype}, and must be floating point."
            )
        module, side = match["module"], match["side"] or match["table"]
        found = factors.get(module, _Factors(is_embedding=bool(match["table"])))
        field = "lora_a" if side == "A" else "lora_b"
        if getattr(found, field) is not None or found.is_embedding != bool(match["table"]):
            raise AdapterFormatError(
                f"{printable(module)} has two lora_{side} tensors. Keep one adapter a file."
            )
        factors[module] = replace(found, **{field: tensor})
    return factors


def _build_pair(module: str, found: _Factors, config: PeftConfig, limits: Limits) -> LoraPair:
    shown = printable(module)
    if found.lora_a is None or found.lora_b is None:
        missing, present = ("lora_A", "lora_B") if found.lora_a is None else ("lora_B", "lora_A")
        raise AdapterMismatchError(
            f"{shown} has {present} but no {missing}. Export the adapter again."
        )
    try:
        pair = LoraPair(
            lora_a=found.lora_a,
            lora_b=found.lora_b,
            scaling=config.scaling_of(module),
            is_embedding=found.is_embedding,
        )
    except AdapterMismatchError as error:
        raise AdapterMismatchError(f"{shown}: {error}") from error
    if not 1 <= pair.rank <= limits.rank or pair.in_features == 0 or pair.out_features == 0:
        raise AdapterLimitError(
            f"{shown} has shapes {tuple(pair.lora_a.shape)} and {tuple(pair.lora_b.shape)}; the rank must be from 1 "
            f"to {limits.rank} and no dimension empty."
        )
    if pair.is_conv and tuple(pair.lora_b.shape[2:]) != (1, 1):
        raise AdapterMismatchError(
            f"{shown} has lora_B {tuple(pair.lora_b.shape)}, and a Conv2d's ends in (1, 1)."
        )
    if pair.rank != config.rank_of(module):
        raise AdapterMismatchError(
            f"{shown} has rank {pair.rank} in its tensors, but rank {config.rank_of(module)} in `{CONFIG_NAME}`. "
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
                    f"{printable(name)} has tensors, but `target_modules` does not name it. Take config and tensors "
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
            f"{printable(missing[0])} is named by `target_modules` but has no tensors ({len(missing)} of "
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
        dtype: Dtype of the factors; by default their own (float64 becomes float32), so the delta weight is kept.
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
        adapter = replace(
            adapter, base=adapter.base or base.id, task_type=adapter.task_type or base.task_type
        )
    if not exact:
        adapter = to_portable(adapter)
    adapter = cast_factors(adapter, dtype)
    config = _config_of(adapter, base)
    with publish_folder(folder, overwrite) as temp:
        (temp / WEIGHTS_NAME).write_bytes(serialize_tensors(_tensors_of(adapter), {"format": "pt"}))
        (temp / CONFIG_NAME).write_text(_json(config), encoding="utf-8")
        (temp / CARD_NAME).write_text(card or default_card(adapter), encoding="utf-8")
        if provenance is not None:
            (temp / PROVENANCE_NAME).write_text(_json(provenance), encoding="utf-8")
        _require_same(read_peft(temp, base=base, allow_embeddings=True), adapter)


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


def cast_factors(adapter: Adapter, dtype: torch.dtype | None) -> Adapter:
    """The adapter with factors in `dtype`, contiguous on the CPU; None keeps them, but float64 becomes float32.

    Raises:
        AdapterValueError: A value overflows `dtype`.
    """
    pairs = {}
    for name, pair in adapter.pairs.items():
        own = torch.promote_types(pair.lora_a.dtype, pair.lora_b.dtype)
        target = dtype or (torch.float32 if own == torch.float64 else own)
        factors = {
            side: getattr(pair, side).detach().to("cpu", target).contiguous()
            for side in ("lora_a", "lora_b")
        }
        for side, tensor in factors.items():
            if not bool(torch.isfinite(tensor).all()):
                raise AdapterValueError(
                    f"`{name}.{side}` overflows {target}. Write it as bfloat16 or float32."
                )
        pairs[name] = replace(pair, **factors)
    return replace(adapter, pairs=pairs)


def _tensors_of(adapter: Adapter) -> dict[str, Tensor]:
    tensors = {}
    for name, pair in adapter.pairs.items():
        middle, end = ("lora_embedding_", "") if pair.is_embedding else ("lora_", ".weight")
        tensors[f"{PREFIX}{name}.{middle}A{end}"] = pair.lora_a
        tensors[f"{PREFIX}{name}.{middle}B{end}"] = pair.lora_b
    return tensors


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


def shortest_suffixes(modules: Collection[str], known: Collection[str]) -> list[str]:
    """Suffixes that select exactly `modules` among `known`; full paths when nothing is known.

    Raises:
        AdapterMismatchError: A path is the end of a path that must not be selected.
    """
    wanted, others = set(modules), set(known) - set(modules)
    suffixes: set[str] = set()
    for module in sorted(wanted):
        parts = module.split(".")
        candidates = [".".join(parts[-count:]) for count in range(1, len(parts) + 1)]
        fitting = (c for c in candidates if not any(matches_suffix(other, c) for other in others))
        chosen = next(fitting, None) if known else module
        if chosen is None:
            raise AdapterMismatchError(
                f"{printable(module)} cannot be targeted alone: another module's path ends with it. Adapt both."
            )
        suffixes.add(chosen)
    return sorted(suffixes)


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n"


def _require_same(read: Adapter, written: Adapter) -> None:
    for name, pair in written.pairs.items():
        back = read.pairs.get(name)
        if (
            back is None
            or not torch.equal(back.lora_a, pair.lora_a)
            or not torch.equal(back.lora_b, pair.lora_b)
            or abs(back.scaling - pair.scaling) > 1e-9 * abs(pair.scaling)
        ):
            raise StorageError(f"{printable(name)} reads back different from what was written.")
    if len(read.pairs) != len(written.pairs):
        raise StorageError("More modules read back than were written.")
