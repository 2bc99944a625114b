"""Door to Transformers and Diffusers: the modules of a base, from its config on the meta device.

No weight is read or allocated, and no code of the base's own is ever run.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_gen.adapter.base_model import (
    BaseModelSpec,
    ModuleShape,
    require_hub_id,
    resolve_base,
    unavailable_base,
)
from lora_gen.errors import BaseModelError, LoraGenError
from lora_gen.strict_json import Limits, printable, read_json

if TYPE_CHECKING:
    from torch import nn

_CONFIG_LIMITS = Limits(json_bytes=10_000_000)
_DENOISERS = ("unet", "transformer")
_COMPONENTS = (*_DENOISERS, "text_encoder", "text_encoder_2", "text_encoder_3")
_VOLATILE = (
    "transformers_version",
    "dtype",
    "torch_dtype",
    "architectures",
    "name_or_path",
    "use_cache",
)
_CLASS_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_SEQ_CLS_HEADS = ("score", "classifier")
_TASKS = (
    ("ForCausalLM", "CAUSAL_LM"),
    ("LMHeadModel", "CAUSAL_LM"),
    ("ForSequenceClassification", "SEQ_CLS"),
    ("ForTokenClassification", "TOKEN_CLS"),
    ("ForQuestionAnswering", "QUESTION_ANS"),
)


def probe_base(
    source: object, *, id: str | None = None, revision: str | None = None
) -> BaseModelSpec:
    """The spec of a Transformers or Diffusers base.

    Args:
        source: Embedded id, folder, hub id, or a Transformers config object.
        id: Name to record; by default the source's own.
        revision: Commit of a hub id.

    Raises:
        BaseModelError: The base is unknown, not available offline, or needs code of its own.
    """
    if not isinstance(source, str | Path):
        return _probe_transformers(source, id)
    name = id or str(source)
    folder = _config_folder(str(source), revision)
    if (folder / "model_index.json").is_file():
        return _probe_diffusers(folder, name)
    if not (folder / "config.json").is_file():
        raise BaseModelError(
            f"`{source}` has no `config.json` and no `model_index.json`. Pass the folder of a Transformers model or a "
            "Diffusers pipeline."
        )
    return _probe_transformers(_load_config(folder), name)


def _config_folder(source: str, revision: str | None) -> Path:
    """A folder with the configs of a base; for a hub id only those are fetched."""
    try:
        if Path(source).expanduser().is_dir():
            return Path(source).expanduser()
        require_hub_id(source)
    except OSError as error:
        raise unavailable_base(source[:96]) from error
    from lora_gen.adapter.base_model import EMBEDDED_BASES

    if source in EMBEDDED_BASES:
        return resolve_base(source)
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                source,
                revision=revision,
                allow_patterns=["config.json", "model_index.json", "*/config.json"],
            )
        )
    except (OSError, ValueError) as error:
        raise unavailable_base(source) from error


def _load_config(folder: Path) -> Any:
    from transformers import AutoConfig

    data = read_json(folder / "config.json", limits=_CONFIG_LIMITS, error=BaseModelError)
    if data.get("auto_map"):
        raise BaseModelError(
            f"`{folder}` needs code of its own (`auto_map`), which is never run. Choose another base."
        )
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BaseModelError(
            f"The config in `{folder}` is not one that Transformers knows ({_first_line(error)})."
        ) from error


def _probe_transformers(config: Any, name: str | None) -> BaseModelSpec:
    if not hasattr(config, "to_dict") or not hasattr(config, "model_type"):
        raise BaseModelError(
            f"`{type(config).__name__}` is no base; pass a folder, an id or a Transformers config."
        )
    architecture, model = _meta_transformers(config)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    task = _task_type(architecture, bool(getattr(config, "is_encoder_decoder", False)))
    return BaseModelSpec(
        id=name or getattr(config, "name_or_path", "") or architecture,
        kind="transformers",
        architecture=architecture,
        task_type=task,
        modules=_shapes(model, ""),
        num_layers=int(_first_of(text, ("num_hidden_layers", "num_layers", "n_layer"), 0)),
        hidden_size=int(_first_of(text, ("hidden_size", "d_model", "n_embd"), 0)),
        config_hash=_hash([architecture, _stable(config.to_dict())]),
        heads=_heads(model, task),
    )


def _meta_transformers(config: Any) -> tuple[str, nn.Module]:
    import torch
    import transformers

    names = [
        name for name in (getattr(config, "architectures", None) or []) if isinstance(name, str)
    ]
    architecture = names[0] if names else ""
    model_class = (
        getattr(transformers, architecture, None) if _CLASS_NAME.fullmatch(architecture) else None
    )
    if names and not (
        isinstance(model_class, type) and issubclass(model_class, transformers.PreTrainedModel)
    ):
        raise BaseModelError(
            f"{printable(architecture)} is not a model of the installed Transformers. Update it, or choose another base."
        )
    try:
        with torch.device("meta"):
            if model_class is None:
                model = transformers.AutoModel.from_config(config, trust_remote_code=False)
            else:
                model = model_class._from_config(config)
    except (
        ValueError,
        TypeError,
        RuntimeError,
        AttributeError,
        ImportError,
        NotImplementedError,
    ) as error:
        raise BaseModelError(
            f"{printable(architecture or type(config).__name__)} cannot be built from its config ({_first_line(error)})."
        ) from error
    return type(model).__name__, model


def _probe_diffusers(folder: Path, name: str) -> BaseModelSpec:
    index = read_json(folder / "model_index.json", limits=_CONFIG_LIMITS, error=BaseModelError)
    parts = {part: index[part] for part in _COMPONENTS if _is_component(index.get(part))}
    denoiser = next((part for part in _DENOISERS if part in parts), None)
    if denoiser is None:
        raise BaseModelError(
            f"`{name}` is a Diffusers pipeline without `unet` or `transformer`, so LoRA has no target."
        )
    modules: dict[str, ModuleShape] = {}
    configs: dict[str, Any] = {}
    for part, (library, class_name) in parts.items():
        config, model = _meta_component(folder / part, library, class_name)
        modules.update(_shapes(model, f"{part}."))
        configs[part] = [class_name, config]
    own = configs[denoiser][1]
    return BaseModelSpec(
        id=name,
        kind="diffusers",
        architecture=configs[denoiser][0],
        task_type=None,
        modules=modules,
        num_layers=_count_blocks(modules, denoiser),
        hidden_size=_diffusers_width(own),
        config_hash=_hash(configs),
    )


def _is_component(entry: Any) -> bool:
    return (
        isinstance(entry, list) and len(entry) == 2 and all(isinstance(item, str) for item in entry)
    )


def _meta_component(
    folder: Path, library: str, class_name: str
) -> tuple[dict[str, Any], nn.Module]:
    import torch

    if library == "transformers":
        config = _load_config(folder)
        config.architectures = [class_name]
        return _stable(config.to_dict()), _meta_transformers(config)[1]
    import diffusers

    data = read_json(folder / "config.json", limits=_CONFIG_LIMITS, error=BaseModelError)
    model_class = (
        getattr(diffusers, class_name, None) if _CLASS_NAME.fullmatch(class_name) else None
    )
    if library != "diffusers" or not (
        isinstance(model_class, type) and issubclass(model_class, diffusers.ModelMixin)
    ):
        raise BaseModelError(
            f"{printable(f'{library}.{class_name}')} is not a model of the installed Diffusers or Transformers, and "
            "code of the base's own is never run."
        )
    try:
        with torch.device("meta"):
            model = model_class.from_config(data)
    except (ValueError, TypeError, RuntimeError, AttributeError) as error:
        raise BaseModelError(
            f"`{class_name}` cannot be built from its config ({_first_line(error)})."
        ) from error
    return {key: value for key, value in data.items() if not key.startswith("_")}, model


def _shapes(model: nn.Module, prefix: str) -> dict[str, ModuleShape]:
    """Every module that PEFT can adapt here; grouped convolutions are left out."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    shapes: dict[str, ModuleShape] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            shape = ModuleShape(
                type="linear", out_features=module.out_features, in_features=module.in_features
            )
        elif isinstance(module, Conv1D):
            inside, outside = module.weight.shape
            shape = ModuleShape(type="conv1d", out_features=outside, in_features=inside)
        elif isinstance(module, nn.Conv2d) and module.groups == 1:
            shape = ModuleShape(
                type="conv2d",
                out_features=module.out_channels,
                in_features=module.in_channels,
                kernel=(module.kernel_size[0], module.kernel_size[1]),
            )
        else:
            continue
        shapes[f"{prefix}{name}"] = shape
    return shapes


def _heads(model: Any, task: str | None) -> tuple[str, ...]:
    """The output heads that PEFT's `all-linear` leaves out."""
    head = model.get_output_embeddings()
    if head is None and task == "SEQ_CLS":
        head = next((getattr(model, name) for name in _SEQ_CLS_HEADS if hasattr(model, name)), None)
    return tuple(
        name for name, module in model.named_modules() if head is not None and module is head
    )


def _task_type(architecture: str, is_encoder_decoder: bool) -> str | None:
    if architecture.endswith("ForConditionalGeneration"):
        return "SEQ_2_SEQ_LM" if is_encoder_decoder else "CAUSAL_LM"
    if architecture.startswith(("ViT", "Swin", "DeiT", "Beit")):
        return None
    return next((task for ending, task in _TASKS if architecture.endswith(ending)), None)


def _first_of(config: Any, names: tuple[str, ...], default: int) -> int:
    for name in names:
        value = getattr(config, name, None)
        if isinstance(value, int):
            return value
    return default


def _count_blocks(modules: Mapping[str, ModuleShape], denoiser: str) -> int:
    """Distinct transformer blocks of the denoiser, the depth its adapters see."""
    pattern = re.compile(rf"{denoiser}\.(?:.*\.)?\w*blocks\.\d+(?=\.(?:attn|ff|norm))")
    found = (pattern.match(name) for name in modules)
    return len({match.group() for match in found if match})


def _diffusers_width(config: Mapping[str, Any]) -> int:
    channels = config.get("block_out_channels")
    if isinstance(channels, list) and channels:
        return int(channels[-1])
    heads, width = config.get("num_attention_heads"), config.get("attention_head_dim")
    return heads * width if isinstance(heads, int) and isinstance(width, int) else 0


def _stable(config: Any) -> Any:
    """The config without names, versions and private fields, at every depth."""
    if isinstance(config, dict):
        return {
            key: _stable(value)
            for key, value in config.items()
            if isinstance(key, str) and not key.startswith("_") and key not in _VOLATILE
        }
    return [_stable(item) for item in config] if isinstance(config, list) else config


def _hash(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0][:160] if lines else type(error).__name__
