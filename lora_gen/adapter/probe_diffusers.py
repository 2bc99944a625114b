"""Door to Diffusers: the modules of a pipeline, or of one of its models, from configs alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_gen.adapter.base_model import COMPONENTS, BaseModelSpec, ModuleShape
from lora_gen.adapter.probe_transformers import (
    CLASS_NAME,
    CONFIG_LIMITS,
    content_hash,
    first_line,
    linear_shapes,
    load_config,
    meta_transformers,
    stable_config,
)
from lora_gen.errors import BaseModelError
from lora_gen.strict_json import printable, read_json

if TYPE_CHECKING:
    from torch import nn

_DENOISERS = ("unet", "transformer")
_BLOCK = re.compile(r".*blocks\.\d+(?=\.(?:attn|ff|norm))")


def probe_pipeline(folder: Path, name: str) -> BaseModelSpec:
    """The spec of a Diffusers pipeline folder; each module path begins with its component.

    Raises:
        BaseModelError: It has no denoiser, or a component that needs code of its own.
    """
    index = read_json(folder / "model_index.json", limits=CONFIG_LIMITS, error=BaseModelError)
    parts = {part: index[part] for part in COMPONENTS if _is_component(index.get(part))}
    denoiser = next((part for part in _DENOISERS if part in parts), None)
    if denoiser is None:
        raise BaseModelError(
            f"`{name}` is a Diffusers pipeline without `unet` or `transformer`, so LoRA has no "
            "target."
        )
    modules: dict[str, ModuleShape] = {}
    configs: dict[str, Any] = {}
    for part, (library, class_name) in parts.items():
        config, model = meta_component(folder / part, library, class_name)
        modules.update(linear_shapes(model, f"{part}."))
        configs[part] = [class_name, config]
    class_name, own = configs[denoiser]
    return _diffusers_spec(name, class_name, own, modules, configs)


def probe_denoiser(folder: Path, name: str, class_name: str) -> BaseModelSpec:
    """The spec of one Diffusers model without its pipeline; module paths have no component."""
    config, model = meta_component(folder, "diffusers", class_name)
    return _diffusers_spec(name, class_name, config, linear_shapes(model, ""), [class_name, config])


def _diffusers_spec(
    name: str,
    class_name: str,
    config: Mapping[str, Any],
    modules: dict[str, ModuleShape],
    content: Any,
) -> BaseModelSpec:
    return BaseModelSpec(
        id=name,
        kind="diffusers",
        architecture=class_name,
        task_type=None,
        modules=modules,
        num_layers=_count_blocks(modules),
        hidden_size=_diffusers_width(config),
        config_hash=content_hash(content),
    )


def _is_component(entry: Any) -> bool:
    return (
        isinstance(entry, list) and len(entry) == 2 and all(isinstance(item, str) for item in entry)
    )


def meta_component(folder: Path, library: str, class_name: str) -> tuple[dict[str, Any], nn.Module]:
    """Config and meta-device model of one part of a pipeline.

    Raises:
        BaseModelError: Its class is in neither library, or refuses the config.
    """
    import torch

    if library == "transformers":
        config = load_config(folder)
        config.architectures = [class_name]
        return stable_config(config.to_dict()), meta_transformers(config)[1]
    import diffusers

    data = read_json(folder / "config.json", limits=CONFIG_LIMITS, error=BaseModelError)
    model_class = getattr(diffusers, class_name, None) if CLASS_NAME.fullmatch(class_name) else None
    if library != "diffusers" or not (
        isinstance(model_class, type) and issubclass(model_class, diffusers.ModelMixin)
    ):
        raise BaseModelError(
            f"{printable(f'{library}.{class_name}')} is not a model of the installed Diffusers or "
            "Transformers, and "
            "code of the base's own is never run."
        )
    builder: Any = model_class
    try:
        with torch.device("meta"):
            model: nn.Module = builder.from_config(data)
    except (ValueError, TypeError, RuntimeError, AttributeError) as error:
        raise BaseModelError(
            f"`{class_name}` cannot be built from its config ({first_line(error)})."
        ) from error
    return {key: value for key, value in data.items() if not key.startswith("_")}, model


def _count_blocks(modules: Mapping[str, ModuleShape]) -> int:
    """Distinct transformer blocks of the denoiser, the depth its adapters see."""
    own = [name for name in modules if not name.startswith("text_encoder")]
    return len({match.group() for name in own if (match := _BLOCK.match(name))})


def _diffusers_width(config: Mapping[str, Any]) -> int:
    channels = config.get("block_out_channels")
    if isinstance(channels, list) and channels:
        return int(channels[-1])
    heads, width = config.get("num_attention_heads"), config.get("attention_head_dim")
    return heads * width if isinstance(heads, int) and isinstance(width, int) else 0
