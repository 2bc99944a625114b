"""The tensor names of PEFT's LoRA files; they stand here and nowhere else."""

from __future__ import annotations

import re

from torch import Tensor

from lora_gen.adapter.adapter import Adapter
from lora_gen.errors import AdapterConfigError
from lora_gen.strict_json import printable

PREFIX = "base_model.model."

_KEY = re.compile(
    r"(?P<module>.+)\.(?:lora_(?P<side>[AB])(?:\.(?!weight$)[A-Za-z0-9_-]+)?\.weight"
    r"|lora_embedding_(?P<table>[AB])(?:\.[A-Za-z0-9_-]+)?)"
)
_REFUSED_KEYS: tuple[tuple[str, str], ...] = (
    ("lora_magnitude_vector", "DoRA's magnitude: extract a LoRA with PEFT's `save_as_lora`"),
    ("lora_B.bias", "a bias on B: train with `lora_bias=False`"),
    ("base_layer.lora_", "a LoRA on MoE expert parameters: train on dense modules"),
    ("base_layer.weight", "a weight of the base: save again with `save_embedding_layers=False`"),
    ("token_adapter", "trained tokens: train without `trainable_token_indices`"),
    (".experts.lora_", "a LoRA on MoE expert parameters: train on dense modules"),
    ("hada_", "a LoHa factor: extract a LoRA with PEFT's `save_as_lora`"),
    ("lokr_", "a LoKr factor: extract a LoRA with PEFT's `save_as_lora`"),
    ("lora_down", "a kohya or Diffusers key: pass that file itself to `load_adapter`"),
    ("lora.down", "a kohya or Diffusers key: pass that file itself to `load_adapter`"),
)


def parse_key(key: str, allow_embeddings: bool) -> tuple[str, str, bool]:
    """Module path, side `A` or `B`, and whether it is an embedding's factor.

    The prefix may be missing and an adapter's name (`.default.`) present: PEFT writes neither
    consistently.

    Raises:
        AdapterConfigError: The key is not plain LoRA's; the message says what it is.
    """
    match = _KEY.fullmatch(key.removeprefix(PREFIX))
    refused = next((advice for part, advice in _REFUSED_KEYS if part in key), None)
    if match is None or refused is not None:
        reason = refused or "no LoRA factor, perhaps of a module saved in full"
        raise AdapterConfigError(
            f"{printable(key)} is {reason}. Supported are lora_A and lora_B weights only."
        )
    is_embedding = match["table"] is not None
    if is_embedding and not allow_embeddings:
        raise AdapterConfigError(
            f"{printable(key)} adapts an embedding, which few runtimes apply. Pass "
            "`allow_embeddings=True` to read it anyway."
        )
    return match["module"], match["side"] or match["table"], is_embedding


def adapter_tensors(adapter: Adapter) -> dict[str, Tensor]:
    """The adapter's factors under PEFT's names."""
    tensors = {}
    for name, pair in adapter.pairs.items():
        middle, end = ("lora_embedding_", "") if pair.is_embedding else ("lora_", ".weight")
        tensors[f"{PREFIX}{name}.{middle}A{end}"] = pair.lora_a
        tensors[f"{PREFIX}{name}.{middle}B{end}"] = pair.lora_b
    return tensors
