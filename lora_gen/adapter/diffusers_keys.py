"""The tensor names of Diffusers' LoRA files; they stand here and nowhere else.

A component (`unet`, `text_encoder` …), the module's path in it, and one of five spellings of the
factor, which one file may mix.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import Tensor

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.base_model import COMPONENTS
from lora_gen.adapter.factors import refuse_beyond_lora
from lora_gen.errors import AdapterFormatError
from lora_gen.strict_json import printable

METADATA_KEY = "lora_adapter_metadata"

_TAILS: Mapping[str, str] = {
    ".lora_A.weight": "A",
    ".lora_B.weight": "B",
    ".lora.down.weight": "A",
    ".lora.up.weight": "B",
    ".lora_linear_layer.down.weight": "A",
    ".lora_linear_layer.up.weight": "B",
    "_lora.down.weight": "A",
    "_lora.up.weight": "B",
    ".alpha": "alpha",
}
_OLD_TAIL = "_lora."
_OLD_UNET = {".to_out": ".to_out.0"}
_OLD_TEXT_ENCODER = {
    ".to_q": ".q_proj",
    ".to_k": ".k_proj",
    ".to_v": ".v_proj",
    ".to_out": ".out_proj",
}
_UNPREFIXED = (
    "down_blocks",
    "mid_block",
    "up_blocks",
    "transformer_blocks",
    "single_transformer_blocks",
)


def is_diffusers(names: Collection[str], metadata: Mapping[str, str]) -> bool:
    """Whether a file's keys are those of a Diffusers LoRA, with or without their component."""
    if METADATA_KEY in metadata:
        return True
    own = [name for name in names if not name.startswith("base_model.model.")]
    return any(
        name.split(".")[0] in (*COMPONENTS, *_UNPREFIXED)
        or name.endswith(tuple(tail for tail in _TAILS if ".down." in tail))
        for name in own
        if "lora" in name or "dora" in name
    )


def parse_key(key: str) -> tuple[str, str]:
    """Module path with its component, and `A`, `B` or `alpha`.

    Raises:
        AdapterConfigError: The key is of something else than plain LoRA.
        AdapterFormatError: It is no LoRA key, or does not begin with a component.
    """
    refuse_beyond_lora(key)
    tail = next((tail for tail in _TAILS if key.endswith(tail)), None)
    if tail is None:
        raise AdapterFormatError(
            f"{printable(key)} is no LoRA factor. Supported are A (down) and B (up) weights and "
            "their alpha."
        )
    component, _, module = key.removesuffix(tail).partition(".")
    if component not in COMPONENTS or not module:
        raise AdapterFormatError(
            f"{printable(key)} does not begin with a component; components are "
            f"{', '.join(f'`{name}`' for name in COMPONENTS)}. Save it with the pipeline's "
            "`save_lora_weights`, or put the component and a dot before every key."
        )
    if module.startswith("base_model.model."):
        raise AdapterFormatError(
            f"{printable(key)} has PEFT's prefix `base_model.model.`, which Diffusers silently "
            "ignores with all that follows. Remove it from every key."
        )
    module = f".{module}".replace(".processor.", ".")
    if tail.startswith(_OLD_TAIL):
        old = _OLD_UNET if component in ("unet", "transformer") else _OLD_TEXT_ENCODER
        end = next((end for end in old if module.endswith(end)), "")
        module = module.removesuffix(end) + old.get(end, "")
    return component + module, _TAILS[tail]


def adapter_tensors(adapter: Adapter) -> dict[str, Tensor]:
    """The adapter's factors under names that Diffusers reads."""
    tensors = {}
    for name, pair in adapter.pairs.items():
        # Diffusers refuses a text encoder's lora_A keys when none of them is in attention
        is_text = name.startswith("text_encoder")
        a, b = ("linear_layer.down", "linear_layer.up") if is_text else ("A", "B")
        tensors[f"{name}.lora_{a}.weight"] = pair.lora_a
        tensors[f"{name}.lora_{b}.weight"] = pair.lora_b
    return tensors
