"""Door to PEFT's `adapter_config.json`: its fields, those we represent, those refused by name.

The file is data from outside. No pattern in it is ever compiled, nothing it names is imported, and
the shapes come from the tensors; the config only has to agree with them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from lora_gen.errors import (
    AdapterConfigError,
    AdapterLimitError,
    UnsafeFileError,
)
from lora_gen.strict_json import Limits, printable

_Number = TypeVar("_Number", int, float)

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"
PEFT_VERSION = "0.21.2"
"""The version whose fields `DEFAULT_FIELDS` lists; a test compares them with the installed one."""

DEFAULT_FIELDS: Mapping[str, Any] = {
    "alora_invocation_tokens": None,
    "alpha_pattern": {},
    "arrow_config": None,
    "auto_mapping": None,
    "base_model_name_or_path": None,
    "bias": "none",
    "corda_config": None,
    "ensure_weight_tying": False,
    "eva_config": None,
    "exclude_modules": None,
    "fan_in_fan_out": False,
    "inference_mode": True,
    "init_lora_weights": True,
    "kasa_config": None,
    "layer_replication": None,
    "layers_pattern": None,
    "layers_to_transform": None,
    "loftq_config": {},
    "lora_alpha": 8,
    "lora_bias": False,
    "lora_dropout": 0.0,
    "lora_ga_config": None,
    "megatron_config": None,
    "megatron_core": "megatron.core",
    "modules_to_save": None,
    "monteclora_config": None,
    "peft_type": "LORA",
    "peft_version": PEFT_VERSION,
    "qalora_group_size": 16,
    "r": 8,
    "rank_pattern": {},
    "revision": None,
    "target_modules": None,
    "target_parameters": None,
    "task_type": None,
    "trainable_token_indices": None,
    "use_bdlora": None,
    "use_dora": False,
    "use_qalora": False,
    "use_rslora": False,
    "velora_config": None,
}
"""All serialized `LoraConfig` fields and our defaults; importing PEFT would cost seconds."""

_REFUSED: Mapping[str, str] = {
    "use_dora": "DoRA is no plain LoRA: extract a LoRA with PEFT's `save_as_lora`",
    "modules_to_save": "full modules are no LoRA update: train without `modules_to_save`",
    "target_parameters": "MoE expert parameters are not supported: train on dense modules",
    "lora_bias": "a bias on B is no LoRA update: train with `lora_bias=False`",
    "trainable_token_indices": "trained tokens are no LoRA update: train without them",
    "layer_replication": "replicated layers change the base: train without `layer_replication`",
    "use_qalora": "QA-LoRA pools its input: train with plain LoRA",
    "use_bdlora": "block-diagonal factors are not supported: train with plain LoRA",
    "alora_invocation_tokens": "activated LoRA depends on the input: train with plain LoRA",
    "arrow_config": "a router over adapters is not one adapter: pass one of its members",
    "kasa_config": "KaSA is no plain LoRA: extract a LoRA with PEFT's `save_as_lora`",
    "velora_config": "VeLoRA changes the module's input: train with plain LoRA",
    "monteclora_config": "MonteCLoRA samples its factors: train with plain LoRA",
}
_BASE_CHANGING_INITS = ("pissa", "olora", "corda", "lora_ga", "loftq")
_NARROWING = ("layers_to_transform", "layers_pattern", "exclude_modules")
_TRUSTED_LIBRARIES = ("transformers", "diffusers", "peft")
_LITERAL = re.compile(r"\^?[A-Za-z0-9_](?:[A-Za-z0-9_-]|\\?\.)*")


@dataclass(frozen=True, kw_only=True)
class PeftConfig:
    """The part of an adapter config that a plain LoRA needs."""

    rank: int
    alpha: float
    use_rslora: bool = False
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]
    target_modules: tuple[str, ...] | None = None
    """Literal suffixes; None for a pattern or keyword, which only the tensors can resolve."""

    all_linear: bool = False
    """Whether the config says `all-linear`."""

    narrowed: bool = False
    """Whether another field leaves out some of the modules that `target_modules` names."""

    base: str | None = None
    revision: str | None = None
    task_type: str | None = None
    unknown: tuple[str, ...] = ()
    """Fields that the tested PEFT does not have."""

    def rank_of(self, module: str) -> int:
        """The rank that the config gives a module."""
        return int(_lookup(self.rank_pattern, module, self.rank))

    def scaling_of(self, module: str) -> float:
        """The factor of B @ A for a module: alpha / r, or alpha / sqrt(r) for rsLoRA."""
        alpha = float(_lookup(self.alpha_pattern, module, self.alpha))
        rank = self.rank_of(module)
        return alpha / math.sqrt(rank) if self.use_rslora else alpha / rank


def parse_config(config: Mapping[str, Any], limits: Limits) -> PeftConfig:
    """A checked config.

    Raises:
        AdapterConfigError: A field is missing, has a wrong type, or asks for what is not supported.
        AdapterLimitError: A rank or alpha is beyond `limits`.
        UnsafeFileError: A field would make a loader import code.
    """
    _refuse_code(config)
    _refuse_unsupported(config)
    targets = _targets(config.get("target_modules"))
    return PeftConfig(
        rank=_rank(config.get("r"), "r", limits),
        alpha=_alpha(config.get("lora_alpha"), "lora_alpha", limits),
        use_rslora=_flag(config, "use_rslora"),
        rank_pattern={
            k: _rank(v, "rank_pattern", limits) for k, v in _pattern(config, "rank_pattern")
        },
        alpha_pattern={
            k: _alpha(v, "alpha_pattern", limits) for k, v in _pattern(config, "alpha_pattern")
        },
        target_modules=targets,
        all_linear=config.get("target_modules") == "all-linear",
        narrowed=any(config.get(name) for name in _NARROWING),
        base=_text(config, "base_model_name_or_path"),
        revision=_text(config, "revision"),
        task_type=_text(config, "task_type"),
        unknown=tuple(sorted(set(config) - set(DEFAULT_FIELDS))),
    )


def build_config(
    pairs: Mapping[str, tuple[int, float]],
    *,
    target_modules: list[str],
    fan_in_fan_out: bool,
    base: str | None,
    revision: str | None,
    task_type: str | None,
) -> dict[str, Any]:
    """The full `adapter_config.json` of a plain LoRA.

    Args:
        pairs: Module path -> (rank, alpha); the most frequent values become the defaults, others
            patterns.
        target_modules: Literal suffixes.
        fan_in_fan_out: Whether the modules are GPT-2's `Conv1D`.
        base: Base id.
        revision: Base commit.
        task_type: PEFT's task type.
    """
    rank = _most_common([rank for rank, _ in pairs.values()])
    alpha = _most_common([alpha for _, alpha in pairs.values()])
    return {
        **DEFAULT_FIELDS,
        "r": rank,
        "lora_alpha": _whole(alpha),
        "rank_pattern": {_anchored(n, pairs): r for n, (r, _) in pairs.items() if r != rank},
        "alpha_pattern": {
            _anchored(n, pairs): _whole(a) for n, (_, a) in pairs.items() if a != alpha
        },
        "target_modules": sorted(target_modules),
        "fan_in_fan_out": fan_in_fan_out,
        "base_model_name_or_path": base,
        "revision": revision,
        "task_type": task_type,
    }


def _most_common(values: list[_Number]) -> _Number:
    return max(sorted(set(values)), key=values.count)


def _whole(alpha: float) -> int | float:
    """An int where the value is whole: one runtime parses `lora_alpha` as an unsigned integer."""
    return int(alpha) if float(alpha).is_integer() else alpha


def _anchored(module: str, pairs: Mapping[str, Any]) -> str:
    """A pattern key for exactly this module; anchored when another path ends with it."""
    return f"^{module}" if any(other.endswith(f".{module}") for other in pairs) else module


def _lookup(pattern: Mapping[str, float], module: str, default: float) -> float:
    for key, value in pattern.items():
        name = key.removeprefix("^")
        if module == name or (not key.startswith("^") and module.endswith(f".{name}")):
            return value
    return default


def _refuse_code(config: Mapping[str, Any]) -> None:
    mapping = config.get("auto_mapping")
    if mapping:
        library = mapping.get("parent_library") if isinstance(mapping, dict) else None
        if not isinstance(library, str) or library.split(".")[0] not in _TRUSTED_LIBRARIES:
            raise UnsafeFileError(
                f"`auto_mapping` names the library {printable(str(library))}, which a loader would "
                "import; allowed "
                f"are {', '.join(_TRUSTED_LIBRARIES)}. Remove the field if you trust the adapter."
            )
    if config.get("megatron_config") or config.get("megatron_core") not in (None, "megatron.core"):
        raise UnsafeFileError(
            f"`megatron_core` is {printable(str(config.get('megatron_core')))}, which a loader "
            "would import. "
            "Remove `megatron_config` and `megatron_core` if you trust the adapter."
        )


def _refuse_unsupported(config: Mapping[str, Any]) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise AdapterConfigError(
            f"`peft_type` is {printable(str(kind))}; supported is `LORA`. Convert it with PEFT's "
            "`save_as_lora`."
        )
    for name, advice in _REFUSED.items():
        if config.get(name):
            raise AdapterConfigError(f"`{name}` is set: {advice}.")
    bias = config.get("bias", "none")
    if bias != "none":
        raise AdapterConfigError(
            f"`bias` is {printable(str(bias))}; supported is `none`. Train without biases."
        )
    init = str(config.get("init_lora_weights", True)).lower()
    if init.startswith(_BASE_CHANGING_INITS):
        raise AdapterConfigError(
            f"`init_lora_weights` is {printable(init)}, which changes the base's own weights. Save "
            "it again with "
            "PEFT's `path_initial_model_for_weight_conversion`."
        )


def _flag(config: Mapping[str, Any], name: str) -> bool:
    value = config.get(name, False)
    if value is not None and not isinstance(value, bool):
        raise AdapterConfigError(f"`{name}` is {printable(str(value))}, and must be true or false.")
    return bool(value)


def _text(config: Mapping[str, Any], name: str) -> str | None:
    value = config.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > 4096:
        raise AdapterConfigError(f"`{name}` must be text of at most 4096 characters, or null.")
    return value


def _rank(value: Any, name: str, limits: Limits) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        shown = "missing" if value is None else printable(str(value))
        raise AdapterConfigError(
            f"`{name}` is {shown}, and must be a whole number from 1 to {limits.rank}."
        )
    if not 1 <= value <= limits.rank:
        raise AdapterLimitError(
            f"`{name}` is {printable(str(value))}, and must be a whole number from 1 to "
            f"{limits.rank}."
        )
    return value


def _alpha(value: Any, name: str, limits: Limits) -> float:
    wanted = f"and must be a number above 0, at most {limits.alpha:g}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        shown = "missing" if value is None else printable(str(value))
        raise AdapterConfigError(f"`{name}` is {shown}, {wanted}.")
    if value > limits.alpha:
        raise AdapterLimitError(f"`{name}` is {printable(str(value))}, {wanted}.")
    if not value > 0:
        raise AdapterConfigError(f"`{name}` is {value:g}, {wanted}.")
    return float(value)


def _pattern(config: Mapping[str, Any], name: str) -> list[tuple[str, Any]]:
    pattern = config.get(name) or {}
    if not isinstance(pattern, dict):
        raise AdapterConfigError(
            f"`{name}` is a {type(pattern).__name__}, and must map module names to numbers."
        )
    for key in pattern:
        if not _LITERAL.fullmatch(key):
            raise AdapterConfigError(
                f"`{name}` has the key {printable(key)}; only literal module names are read, never "
                "patterns. "
                "Write the module names out."
            )
    return [(key.replace("\\.", "."), value) for key, value in pattern.items()]


def _targets(targets: Any) -> tuple[str, ...] | None:
    if targets is None or isinstance(targets, str):
        return None
    if not isinstance(targets, list) or not all(isinstance(target, str) for target in targets):
        raise AdapterConfigError("`target_modules` must be a list of names, a text, or null.")
    for target in targets:
        if not _LITERAL.fullmatch(target):
            raise AdapterConfigError(
                f"`target_modules` lists {printable(target)}, and may list only literal module "
                "names."
            )
    return tuple(targets)
