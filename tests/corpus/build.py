"""Adapters made of bytes: no model library, no binary in the repository, every run the same."""

from __future__ import annotations

import json
import random
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
MODULES = ("model.layers.0.self_attn.q_proj", "model.layers.0.mlp.up_proj")
PREFIX = "base_model.model."
Tensor = tuple[str, list[int], bytes]


def floats(count: int, seed: int = 0) -> bytes:
    source = random.Random(seed)
    return array("f", (source.gauss(0, 0.1) for _ in range(count))).tobytes()


def f32(*shape: int, seed: int = 0, data: bytes | None = None) -> Tensor:
    count = 1
    for size in shape:
        count *= size
    return "F32", list(shape), floats(count, seed) if data is None else data


def lora(
    module: str = MODULES[0], rank: int = 2, *, out: int = 6, width: int = 4
) -> dict[str, Tensor]:
    return {
        f"{PREFIX}{module}.lora_A.weight": f32(rank, width, seed=1),
        f"{PREFIX}{module}.lora_B.weight": f32(out, rank, seed=2),
    }


def plain() -> dict[str, Tensor]:
    """Two modules of rank 2, the tensors of the good adapter."""
    return {name: tensor for module in MODULES for name, tensor in lora(module).items()}


def header_of(tensors: Mapping[str, Tensor], **changes: Any) -> tuple[dict[str, Any], bytes]:
    """Header and body; `changes` replace or add header entries."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    body = b""
    for name, (dtype, shape, data) in tensors.items():
        offsets = [len(body), len(body) + len(data)]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        body += data
    return {**header, **changes}, body


def raw(
    header: bytes | Mapping[str, Any], body: bytes = b"", *, length: int | None = None
) -> bytes:
    """A safetensors file exactly as told; `length` lies about the header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + body


def weights(tensors: Mapping[str, Tensor] | None = None) -> bytes:
    return raw(*header_of(plain() if tensors is None else tensors))


def config(**changes: Any) -> dict[str, Any]:
    """A config as PEFT writes it, in short; `...` removes a field."""
    fields = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "tiny_lm",
        "r": 2,
        "lora_alpha": 4,
        "target_modules": ["q_proj", "up_proj"],
        "use_rslora": False,
        "bias": "none",
        "inference_mode": True,
        **changes,
    }
    return {name: value for name, value in fields.items() if value is not ...}


def adapter(
    folder: Path,
    *,
    tensors: Mapping[str, Tensor] | None = None,
    data: bytes | None = None,
    text: bytes | None = None,
    **changes: Any,
) -> Path:
    """A PEFT folder: `data` or `tensors` are its weights, `text` or `changes` its config."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS).write_bytes(weights(tensors) if data is None else data)
    content = json.dumps(config(**changes)).encode() if text is None else text
    (folder / CONFIG).write_bytes(content)
    return folder


def good_files() -> dict[str, bytes]:
    return {CONFIG: json.dumps(config()).encode(), WEIGHTS: weights()}
