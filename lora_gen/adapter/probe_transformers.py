"""Door to Transformers: the modules of a base, from its config on the meta device.

No weight is read or allocated, and no code of the base's own is ever run.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_gen.adapter.base_model import BaseModelSpec, ModuleShape
from lora_gen.errors import BaseModelError
from lora_gen.strict_json import Limits, printable, read_json

if TYPE_CHECKING:
    from torch import nn

CONFIG_LIMITS = Limits(json_bytes=10_000_000)
_VOLATILE = (
    "transformers_version",
    "dtype",
    "torch_dtype",
    "architectures",
    "name_or_path",
    "use_cache",
)
CLASS_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_SEQ_CLS_HEADS = ("score", "classifier")
_TASKS = (
    ("ForCausalLM", "CAUSAL_LM"),
    ("LMHeadModel", "CAUSAL_LM"),
    ("ForSequenceClassification", "SEQ_CLS"),
    ("ForTokenClassification", "TOKEN_CLS"),
    ("ForQuestionAnswering", "QUESTION_ANS"),
)


def load_config(folder: Path) -> Any:
    """The Transformers config in a folder.

    Raises:
        BaseModelError: It is missing, not known to Transformers, or needs code of its own.
    """
    from transformers import AutoConfig

    data = read_json(folder / "config.json", limits=CONFIG_LIMITS, error=BaseModelError)
    if data.get("auto_map"):
        raise BaseModelError(
            f"`{folder}` needs code of its own (`auto_map`), which is never run. Choose another "
            "base."
        )
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BaseModelError(
            f"The config in `{folder}` is not one that Transformers knows ({first_line(error)})."
        ) from error


def probe_transformers(config: Any, name: str | None) -> BaseModelSpec:
    """The spec of a Transformers base from its config object.

    Raises:
        BaseModelError: It is no config, or its model cannot be built.
    """
    if not hasattr(config, "to_dict") or not hasattr(config, "model_type"):
        raise BaseModelError(
            f"`{type(config).__name__}` is no base; pass a folder, an id or a Transformers config."
        )
    architecture, model = meta_transformers(config)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    task = _task_type(architecture, bool(getattr(config, "is_encoder_decoder", False)))
    return BaseModelSpec(
        id=name or getattr(config, "name_or_path", "") or architecture,
        kind="transformers",
        architecture=architecture,
        task_type=task,
        modules=linear_shapes(model, ""),
        num_layers=int(_first_of(text, ("num_hidden_layers", "num_layers", "n_layer"), 0)),
        hidden_size=int(_first_of(text, ("hidden_size", "d_model", "n_embd"), 0)),
        config_hash=content_hash([architecture, stable_config(config.to_dict())]),
        heads=_heads(model, task),
    )


def meta_transformers(config: Any) -> tuple[str, nn.Module]:
    """Class name and model on the meta device, for the config's own class or `AutoModel`'s.

    Raises:
        BaseModelError: The class is not in the installed Transformers, or refuses the config.
    """
    import torch
    import transformers

    names = [
        name for name in (getattr(config, "architectures", None) or []) if isinstance(name, str)
    ]
    architecture = names[0] if names else ""
    model_class = (
        getattr(transformers, architecture, None) if CLASS_NAME.fullmatch(architecture) else None
    )
    if names and not (
        isinstance(model_class, type) and issubclass(model_class, transformers.PreTrainedModel)
    ):
        raise BaseModelError(
            f"{printable(architecture)} is not a model of the installed Transformers. Update it, "
            "or choose another base."
        )
    try:
        with torch.device("meta"):
            if model_class is None:
                auto: Any = transformers.AutoModel
                model = auto.from_config(config, trust_remote_code=False)
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
            f"{printable(architecture or type(config).__name__)} cannot be built from its config "
            f"({first_line(error)})."
        ) from error
    return type(model).__name__, model


def linear_shapes(model: nn.Module, prefix: str) -> dict[str, ModuleShape]:
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
    return next((task for ending, task in _TASKS if architecture.endswith(ending)), None)


def _first_of(config: Any, names: tuple[str, ...], default: int) -> int:
    for name in names:
        value = getattr(config, name, None)
        if isinstance(value, int):
            return value
    return default


def stable_config(config: Any) -> Any:
    """The config without names, versions and private fields, at every depth."""
    if isinstance(config, dict):
        return {
            key: stable_config(value)
            for key, value in config.items()
            if isinstance(key, str) and not key.startswith("_") and key not in _VOLATILE
        }
    return [stable_config(item) for item in config] if isinstance(config, list) else config


def content_hash(value: Any) -> str:
    """Hex sha256 of a JSON-able value."""
    text = json.dumps(value, sort_keys=True, default=str, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def first_line(error: BaseException) -> str:
    """The first line of a library's message, to quote in a sentence of ours."""
    lines = str(error).splitlines()
    return lines[0][:160] if lines else type(error).__name__
