"""Tiny bases built from configs, random adapters for them, and hand-made files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from lora_gen.adapter.adapter import Adapter, LoraPair
from lora_gen.adapter.base_model import BaseModelSpec, select_targets
from lora_gen.adapter.peft_config import DEFAULT_FIELDS
from lora_gen.safetensors_header import serialize_tensors

_SMALL = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
_TOKENS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "vocab_size": 32}
_CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "LlamaForCausalLM": ("LlamaConfig", {**_SMALL, **_TOKENS, "num_key_value_heads": 1}),
    "LlamaForSequenceClassification": ("LlamaConfig", {**_SMALL, **_TOKENS}),
    "GPT2LMHeadModel": ("GPT2Config", {**_TOKENS, "n_embd": 16, "n_layer": 2, "n_head": 2}),
    "BertForMaskedLM": ("BertConfig", {**_SMALL, **_TOKENS}),
    "BertForSequenceClassification": ("BertConfig", {**_SMALL, **_TOKENS}),
    "T5ForConditionalGeneration": (
        "T5Config",
        {**_TOKENS, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}
        | {"decoder_start_token_id": 0},
    ),
    "ViTForImageClassification": ("ViTConfig", {**_SMALL, "image_size": 8, "patch_size": 4}),
}
CONTRACT_MODELS = tuple(name for name in _CONFIGS if "Sequence" not in name)
AUTO_CLASSES = {
    "LlamaForCausalLM": "AutoModelForCausalLM",
    "GPT2LMHeadModel": "AutoModelForCausalLM",
    "BertForMaskedLM": "AutoModelForMaskedLM",
    "T5ForConditionalGeneration": "AutoModelForSeq2SeqLM",
    "ViTForImageClassification": "AutoModelForImageClassification",
}


def tiny_config(architecture: str) -> Any:
    name, values = _CONFIGS[architecture]
    return getattr(transformers, name)(**values, architectures=[architecture])


def tiny_model(architecture: str, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    model = getattr(transformers, architecture)(tiny_config(architecture))
    return model.float().eval()


def tiny_spec(architecture: str = "LlamaForCausalLM", id: str = "acme/tiny") -> BaseModelSpec:
    return BaseModelSpec.from_config(tiny_config(architecture), id=id)


def logits_of(model: Any, architecture: str) -> Tensor:
    tokens = torch.tensor([[1, 5, 9, 14, 3]])
    with torch.no_grad():
        if architecture.startswith("ViT"):
            pixels = torch.linspace(-1, 1, 3 * 64).reshape(1, 3, 8, 8)
            return model(pixel_values=pixels).logits
        if architecture.startswith("T5"):
            return model(input_ids=tokens, decoder_input_ids=tokens).logits
        return model(input_ids=tokens).logits


def random_pair(
    out_features: int, in_features: int, rank: int = 4, *, seed: int = 0, scaling: float = 1.0
) -> LoraPair:
    generator = torch.Generator().manual_seed(seed)
    return LoraPair(
        lora_a=torch.randn(rank, in_features, generator=generator) / 4,
        lora_b=torch.randn(out_features, rank, generator=generator) / 4,
        scaling=scaling,
    )


def random_adapter(
    spec: BaseModelSpec,
    *,
    target: Any = "all-linear",
    rank: int = 4,
    scaling: float = 2.0,
    seed: int = 0,
) -> Adapter:
    generator = torch.Generator().manual_seed(seed)
    pairs = {}
    for name in select_targets(spec, target):
        a_shape, b_shape = spec.modules[name].factor_shapes(rank)
        pairs[name] = LoraPair(
            lora_a=torch.randn(a_shape, generator=generator) / 4,
            lora_b=torch.randn(b_shape, generator=generator) / 4,
            scaling=scaling,
        )
    return Adapter(pairs=pairs, base=spec.id, base_revision="abc", task_type=spec.task_type)


def small_adapter(seed: int = 0, *, rank: int = 3, modules: int = 3) -> Adapter:
    """Linear modules of different shapes, in float64 for exact laws."""
    sizes = [(5, 7), (6, 4), (4, 9)]
    pairs = {}
    for i in range(modules):
        pair = random_pair(*sizes[i], rank, seed=10 * seed + i, scaling=0.5 + i)
        pairs[f"block.{i}.proj"] = replace(
            pair, lora_a=pair.lora_a.double(), lora_b=pair.lora_b.double()
        )
    return Adapter(pairs=pairs, base="acme/tiny")


def dense_delta(pair: LoraPair) -> Tensor:
    lora_a, lora_b = pair.matrices()
    return pair.scaling * (lora_b @ lora_a)


def dense_vector(adapter: Adapter, names: Any = None) -> Tensor:
    """All delta weights flattened, the truth that the algebra is compared with."""
    parts = [dense_delta(pair).double().flatten() for pair in adapter.pairs.values()]
    return torch.cat(parts)


def merged(model: Any, adapter: Adapter) -> Any:
    """The model with W + scaling * B @ A written into its weights, without PEFT."""
    for name, pair in adapter.pairs.items():
        module = model.get_submodule(name)
        delta = dense_delta(pair).float()
        with torch.no_grad():
            if isinstance(module, nn.Linear):
                module.weight += delta
            elif isinstance(module, nn.Conv2d):
                module.weight += delta.reshape(module.weight.shape)
            else:
                module.weight += delta.T
    return model


def raw_safetensors(path: Path, header: Any, body: bytes = b"") -> Path:
    """Length, header and body exactly as given; a dict header becomes JSON."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)
    return path


def raw_peft_folder(
    folder: Path, *, tensors: Mapping[str, Tensor] | None = None, **config: Any
) -> Path:
    """A PEFT folder written by hand: one module `q`, rank 2, alpha 4, unless told otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    fields = {**DEFAULT_FIELDS, "r": 2, "lora_alpha": 4, "target_modules": ["q"], **config}
    fields = {key: value for key, value in fields.items() if value is not ...}
    (folder / "adapter_config.json").write_text(json.dumps(fields))
    tensors = plain_tensors() if tensors is None else tensors
    (folder / "adapter_model.safetensors").write_bytes(serialize_tensors(tensors))
    return folder


def plain_tensors(module: str = "q", rank: int = 2) -> dict[str, Tensor]:
    return {
        f"base_model.model.{module}.lora_A.weight": torch.arange(4.0 * rank).reshape(rank, 4),
        f"base_model.model.{module}.lora_B.weight": torch.ones(3, rank),
    }
