"""Door to Diffusers files: `pytorch_lora_weights.safetensors`, in and out.

Keys begin with the pipeline's component. The scaling travels as JSON in the header, which some
runtimes ignore, so by default it is folded into B. What is written is read back before it is
published.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lora_gen.adapter.adapter import Adapter, LoraPair
from lora_gen.adapter.base_model import COMPONENTS, BaseModelSpec, matches_suffix
from lora_gen.adapter.diffusers_keys import (
    METADATA_KEY,
    adapter_tensors,
    is_diffusers,
    parse_key,
)
from lora_gen.adapter.factors import build_pair, checked, collect_factors, prepared, require_same
from lora_gen.adapter.peft_config import PeftConfig, build_config, parse_config
from lora_gen.adapter.profile import cast_factors
from lora_gen.errors import AdapterConfigError, AdapterFormatError, AdapterMismatchError
from lora_gen.files import publish_folder
from lora_gen.safetensors_header import read_tensors, serialize_tensors
from lora_gen.strict_json import DEFAULT_LIMITS, Limits, parse_json, printable

__all__ = [
    "METADATA_FIELDS",
    "WEIGHTS_NAME",
    "is_diffusers",
    "read_diffusers",
    "write_diffusers",
]

WEIGHTS_NAME = "pytorch_lora_weights.safetensors"
METADATA_FIELDS = ("r", "lora_alpha", "target_modules", "rank_pattern", "alpha_pattern")
"""All that Diffusers needs; it passes every field to `LoraConfig`, which refuses unknown ones."""

_BASE_KEY, _REVISION_KEY = "base_model", "base_model_revision"
_CLIP = "text_model."


def read_diffusers(
    path: Path, limits: Limits = DEFAULT_LIMITS, *, base: BaseModelSpec | None = None
) -> Adapter:
    """The adapter in a Diffusers file, in the file's own dtype.

    Args:
        path: The `.safetensors` file.
        limits: Bounds on the file.
        base: When given, every module must exist there with fitting shapes; CLIP's optional
            `text_model.` is resolved by it.

    Raises:
        LoraGenError: One of the adapter errors; the sentence names the file, field or tensor.
    """
    tensors, header = read_tensors(path, limits)
    factors = collect_factors(tensors, parse_key)
    if not factors:
        raise AdapterFormatError(f"`{path.name}` holds no LoRA tensors. Export the adapter again.")
    pairs = {name: build_pair(name, found, limits) for name, found in factors.items()}
    configs = _read_configs(header.metadata, limits)
    if configs:
        stated = {name for name, found in factors.items() if "alpha" in found}
        pairs = {n: _configured(n, p, configs, n in stated) for n, p in pairs.items()}
    if base is not None:
        pairs = {_clip_path(name, base.modules): pair for name, pair in pairs.items()}
    _require_targets(pairs, configs, base)
    adapter = Adapter(
        pairs=pairs,
        base=header.metadata.get(_BASE_KEY),
        base_revision=header.metadata.get(_REVISION_KEY),
    )
    return checked(adapter, base, limits)


def _read_configs(metadata: Mapping[str, str], limits: Limits) -> dict[str, PeftConfig]:
    """Component -> its config; empty for a file without them."""
    text = metadata.get(METADATA_KEY)
    if not text:
        return {}
    fields = parse_json(text.encode(), subject=f"`{METADATA_KEY}`", limits=limits)
    if not isinstance(fields, dict):
        raise AdapterConfigError(f"`{METADATA_KEY}` is a JSON {type(fields).__name__}, no object.")
    grouped: dict[str, dict[str, Any]] = {}
    for key, value in fields.items():
        component, _, name = key.partition(".")
        if component not in COMPONENTS or not name:
            raise AdapterConfigError(
                f"`{METADATA_KEY}` has the field {printable(key)}, and fields begin with a "
                f"component: {', '.join(COMPONENTS)}. Save it with `save_lora_weights`."
            )
        grouped.setdefault(component, {"peft_type": "LORA"})[name] = value
    return {component: parse_config(group, limits) for component, group in grouped.items()}


def _configured(
    name: str, pair: LoraPair, configs: Mapping[str, PeftConfig], states_alpha: bool
) -> LoraPair:
    """The pair with the scaling that its component's config gives it."""
    component, _, module = name.partition(".")
    config = configs.get(component)
    if config is None:
        raise AdapterMismatchError(
            f"{printable(name)} has tensors, but `{METADATA_KEY}` has no fields of `{component}`. "
            "Pass its `<component>_lora_adapter_metadata` to `save_lora_weights` too."
        )
    if pair.rank != config.rank_of(module):
        raise AdapterMismatchError(
            f"{printable(name)} has rank {pair.rank} in its tensors, but rank "
            f"{config.rank_of(module)} in `{METADATA_KEY}`. Export the adapter again."
        )
    scaling = config.scaling_of(module)
    if states_alpha and not math.isclose(scaling, pair.scaling, rel_tol=1e-3):
        raise AdapterMismatchError(
            f"{printable(name)} is scaled by {pair.scaling:g} in its alpha tensor, but by "
            f"{scaling:g} in `{METADATA_KEY}`. Remove the wrong one."
        )
    return replace(pair, scaling=scaling)


def _clip_path(name: str, modules: Collection[str]) -> str:
    """The path in `modules`: Transformers 5 has no `text_model.` in SD's text encoder, older do."""
    component, _, module = name.partition(".")
    if name in modules or not component.startswith("text_encoder"):
        return name
    other = module.removeprefix(_CLIP) if module.startswith(_CLIP) else _CLIP + module
    return f"{component}.{other}" if f"{component}.{other}" in modules else name


def _require_targets(
    names: Collection[str], configs: Mapping[str, PeftConfig], base: BaseModelSpec | None
) -> None:
    """Tensors and `target_modules` name the same modules, as far as literal names can tell."""
    for component, config in configs.items():
        targets = config.target_modules
        present = {name for name in names if name.startswith(f"{component}.")}
        if not present:
            raise AdapterMismatchError(
                f"`{METADATA_KEY}` describes `{component}`, which has no tensors. Export the "
                "adapter again."
            )
        if targets is None:
            continue
        extra = [n for n in sorted(present) if not any(_targeted(n, t) for t in targets)]
        # a full path is meant literally: `proj_out` of a root must not ask for every block's
        loose = [t for t in targets if f"{component}.{t}" not in present]
        known = () if base is None or config.narrowed else base.modules
        wanted = {n for n in known if n.startswith(f"{component}.")} - present
        missing = [n for n in sorted(wanted) if any(_targeted(n, t) for t in loose)]
        if extra or missing:
            state = "not named by" if extra else "without tensors, but named by"
            raise AdapterMismatchError(
                f"{printable((extra or missing)[0])} is {state} the `target_modules` of "
                f"`{METADATA_KEY}`. Export the adapter again."
            )


def _targeted(name: str, target: str) -> bool:
    return matches_suffix(name, target.removeprefix(_CLIP))


def write_diffusers(
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
    """Publish a folder that `pipe.load_lora_weights` reads, after reading back what was written.

    Args:
        adapter: What to write; module paths begin with the pipeline's component.
        folder: Output folder.
        base: When given, the adapter must fit it.
        exact: Keep ranks and scalings, the latter in the header only, instead of the portable
            profile.
        dtype: Dtype of the factors; by default their own (float64 becomes float32).
        card: Text of `README.md`; by default a short one.
        provenance: Content of `lora_gen.json`.
        overwrite: Replace an adapter folder that exists.

    Raises:
        AdapterValueError: A value is not finite, or overflows `dtype`.
        AdapterMismatchError: A module has no component, or does not fit `base`.
        OutputPathError: The output exists, or is not ours to replace.
        StorageError: The disk refused.
    """
    adapter = cast_factors(prepared(adapter, base, exact), dtype)
    for name, pair in adapter.pairs.items():
        _require_writable(name, pair)
    data = serialize_tensors(adapter_tensors(adapter), _header_of(adapter))
    with publish_folder(folder, overwrite) as temp:
        (temp / WEIGHTS_NAME).write_bytes(data)
        (temp / "README.md").write_text(card or _card(adapter), encoding="utf-8")
        if provenance is not None:
            text = json.dumps(provenance, indent=2, sort_keys=True, allow_nan=False) + "\n"
            (temp / "lora_gen.json").write_text(text, encoding="utf-8")
        require_same(read_diffusers(temp / WEIGHTS_NAME, base=base), adapter)


def _require_writable(name: str, pair: LoraPair) -> None:
    if pair.is_embedding:
        raise AdapterMismatchError(
            f"{printable(name)} adapts an embedding, which Diffusers does not load. Leave it out."
        )
    if name.split(".")[0] not in COMPONENTS:
        raise AdapterMismatchError(
            f"{printable(name)} does not begin with a component; components are "
            f"{', '.join(f'`{part}`' for part in COMPONENTS)}. Build the base's spec from the "
            "pipeline's folder, or write a PEFT folder."
        )


def _header_of(adapter: Adapter) -> dict[str, str]:
    fields: dict[str, Any] = {}
    for component in sorted({name.split(".")[0] for name in adapter.pairs}):
        own = {
            name.partition(".")[2]: (pair.rank, float(f"{pair.scaling * pair.rank:.12g}"))
            for name, pair in adapter.pairs.items()
            if name.startswith(f"{component}.")
        }
        config = build_config(
            own,
            target_modules=list(own),
            fan_in_fan_out=False,
            base=None,
            revision=None,
            task_type=None,
        )
        fields.update({f"{component}.{name}": config[name] for name in METADATA_FIELDS})
    names = {_BASE_KEY: adapter.base, _REVISION_KEY: adapter.base_revision}
    return {
        "format": "pt",
        METADATA_KEY: json.dumps(fields, indent=2, sort_keys=True),
        **{key: value for key, value in names.items() if value},
    }


def _card(adapter: Adapter) -> str:
    front = ["library_name: diffusers", "tags:", "- lora", "- diffusers", "- lora_gen"]
    if adapter.base:
        front = [f"base_model: {json.dumps(adapter.base)}", *front]
    lines = [
        "---",
        *front,
        "---",
        "",
        "# LoRA adapter",
        "",
        f"A LoRA for `{adapter.base or 'an unnamed base'}`: {len(adapter.pairs)} modules, "
        f"{adapter.num_parameters:,} parameters.",
        "",
        "```python",
        f'pipe.load_lora_weights(folder, weight_name="{WEIGHTS_NAME}", use_safetensors=True)',
        "```",
        "",
    ]
    return "\n".join(lines)
