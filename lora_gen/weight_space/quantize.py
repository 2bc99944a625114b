"""Factors in int8 or 4 bits: a file of a half or a quarter of float16, and the adapter back.

Codes are symmetric around zero with one float16 scale for each group of values along a component.
The error of a rounded factor depends on the gauge, so factors are first brought to the canonical
one, where the singular values are shared evenly between A and B: equal adapters in any gauge give
equal codes, but for values on the edge between two.

Shapes: G groups of W values each.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from lora_gen.adapter.adapter import Adapter, LoraPair
from lora_gen.codec.canonical import canonicalize
from lora_gen.errors import AdapterFormatError, ConfigError
from lora_gen.files import atomic_write_bytes
from lora_gen.safetensors_header import (
    read_safetensors_header,
    read_tensors,
    serialize_tensors,
)

Bits = Literal[4, 8]
GROUP = 64
FORMAT = "lora_gen.quantized.1"
_SHRINKS = (1.0, 0.92, 0.84, 0.76)
"""Shares of the largest value that a scale may reach; the one with the least error is taken."""
_SIDES = ("a", "b")


@dataclass(frozen=True, kw_only=True)
class QuantizedAdapter:
    """An adapter as codes and scales."""

    tensors: Mapping[str, Tensor]
    """`module|side|codes` (G, W or W / 2) uint8 and `module|side|scales` (G,) float16."""
    shapes: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
    """Shapes of A and B of each module."""
    bits: Bits
    base: str | None
    base_revision: str | None
    task_type: str | None

    @property
    def num_bytes(self) -> int:
        """Bytes of codes and scales."""
        return sum(t.numel() * t.element_size() for t in self.tensors.values())

    def dequantized(self) -> Adapter:
        """The adapter that the codes stand for, in float32."""
        pairs = {}
        for name, shapes in self.shapes.items():
            a, b = (
                _unpacked(
                    self.tensors[_key(name, side, "codes")],
                    self.tensors[_key(name, side, "scales")],
                    self.bits,
                )
                for side in _SIDES
            )
            rank = shapes[0][0]
            a_RI = _rows(a, rank, shapes[0]).reshape(shapes[0])
            b_RO = _rows(b, rank, shapes[1])
            lora_b = b_RO.mT.reshape(shapes[1]).contiguous()
            pairs[name] = LoraPair(lora_a=a_RI.contiguous(), lora_b=lora_b)
        return Adapter(
            pairs=pairs,
            base=self.base,
            base_revision=self.base_revision,
            task_type=self.task_type,
        )


def quantize_adapter(adapter: Adapter, *, bits: Bits = 8) -> QuantizedAdapter:
    """The adapter in `bits` a value, in canonical gauge.

    Raises:
        ConfigError: `bits` is neither 4 nor 8.
        AdapterValueError: A factor is not finite.
    """
    if bits not in (4, 8):
        raise ConfigError(f"`bits` is {bits}; factors are kept in 4 or 8.")
    tensors, shapes = {}, {}
    for name, pair in canonicalize(adapter).pairs.items():
        a_RI, b_OR = (matrix.float() for matrix in pair.matrices())
        shapes[name] = (tuple(pair.lora_a.shape), tuple(pair.lora_b.shape))
        for side, rows in zip(_SIDES, (a_RI, b_OR.mT), strict=True):
            codes, scales = _packed(rows, bits)
            tensors[_key(name, side, "codes")] = codes
            tensors[_key(name, side, "scales")] = scales
    return QuantizedAdapter(
        tensors=tensors,
        shapes=shapes,
        bits=bits,
        base=adapter.base,
        base_revision=adapter.base_revision,
        task_type=adapter.task_type,
    )


def save_quantized(quantized: QuantizedAdapter, path: Path) -> None:
    """Write one safetensors file, durably; equal adapters give equal bytes."""
    about = {
        "bits": quantized.bits,
        "base": quantized.base,
        "base_revision": quantized.base_revision,
        "task_type": quantized.task_type,
        "shapes": quantized.shapes,
    }
    metadata = {"format": FORMAT, "about": json.dumps(about, sort_keys=True)}
    stored = {name.replace("|", "/"): tensor for name, tensor in quantized.tensors.items()}
    atomic_write_bytes(path, serialize_tensors(stored, metadata))


def is_quantized(path: Path) -> bool:
    """Whether the path is a file that `save_quantized` wrote.

    Raises:
        LoraGenError: It is a file, but no safetensors file.
    """
    return path.is_file() and read_safetensors_header(path).metadata.get("format") == FORMAT


def load_quantized(path: Path) -> QuantizedAdapter:
    """What `save_quantized` wrote, checked against itself.

    Raises:
        AdapterFormatError: The file is of another format, or its tensors are not what it says.
    """
    stored, header = read_tensors(path)
    if header.metadata.get("format") != FORMAT:
        raise AdapterFormatError(
            f"`{path.name}` is not a quantized adapter. Pass what `lora-gen compress --bits` wrote."
        )
    tensors = {name.replace("/", "|"): tensor for name, tensor in stored.items()}
    try:
        about = json.loads(header.metadata["about"])
        shapes = {n: (tuple(a), tuple(b)) for n, (a, b) in about["shapes"].items()}
        found = QuantizedAdapter(
            tensors=tensors,
            shapes=shapes,
            bits=about["bits"],
            base=about["base"],
            base_revision=about["base_revision"],
            task_type=about["task_type"],
        )
        _require_whole(found)
    except (KeyError, TypeError, ValueError) as error:
        raise AdapterFormatError(
            f"`{path.name}` is damaged: its description does not fit its tensors. Copy it again."
        ) from error
    return found


def _require_whole(quantized: QuantizedAdapter) -> None:
    """Check that codes and scales are those that the shapes need.

    Raises:
        ValueError: They are not.
        KeyError: A tensor is missing.
    """
    if quantized.bits not in (4, 8):
        raise ValueError("bits")
    for name, shapes in quantized.shapes.items():
        for side, shape in zip(_SIDES, shapes, strict=True):
            rank = shapes[0][0]
            width = _size(shape) // rank
            groups = rank * -(-width // GROUP)
            codes = quantized.tensors[_key(name, side, "codes")]
            scales = quantized.tensors[_key(name, side, "scales")]
            if tuple(codes.shape) != (groups, GROUP * quantized.bits // 8):
                raise ValueError("codes")
            if tuple(scales.shape) != (groups,) or not bool(torch.isfinite(scales).all()):
                raise ValueError("scales")
    if len(quantized.tensors) != 4 * len(quantized.shapes):
        raise ValueError("tensors")


def _packed(rows: Tensor, bits: Bits) -> tuple[Tensor, Tensor]:
    """Codes (G, W) in whole bytes, and scales (G,) in float16."""
    most = 2 ** (bits - 1) - 1
    missing = -rows.shape[1] % GROUP
    values_GW = torch.nn.functional.pad(rows, (0, missing)).reshape(-1, GROUP)
    peak_G = values_GW.abs().amax(1)
    best_G = torch.full_like(peak_G, float("inf"))
    scales_G = torch.zeros_like(peak_G)
    for shrink in _SHRINKS:
        tried_G = (peak_G * shrink / most).half().float()
        error_G = (_rounded(values_GW, tried_G, most) * tried_G[:, None] - values_GW).square()
        summed_G = error_G.sum(1)
        better_G = summed_G < best_G
        best_G = torch.where(better_G, summed_G, best_G)
        scales_G = torch.where(better_G, tried_G, scales_G)
    codes_GW = (_rounded(values_GW, scales_G, most) + most + 1).to(torch.uint8)
    if bits == 4:
        codes_GW = codes_GW[:, ::2] * 16 + codes_GW[:, 1::2]
    return codes_GW.contiguous(), scales_G.half()


def _rounded(values_GW: Tensor, scales_G: Tensor, most: int) -> Tensor:
    safe_G1 = torch.where(scales_G > 0, scales_G, 1.0)[:, None]
    return (values_GW / safe_G1).round().clamp(-most, most)


def _unpacked(codes: Tensor, scales_G: Tensor, bits: Bits) -> Tensor:
    """Values (G, W)."""
    if bits == 4:
        codes = torch.stack([codes // 16, codes % 16], dim=2).flatten(1)
    values_GW: Tensor = (codes.float() - 2 ** (bits - 1)) * scales_G.float()[:, None]
    return values_GW


def _rows(values_GW: Tensor, rank: int, shape: tuple[int, ...]) -> Tensor:
    """One row a component, padding removed."""
    return values_GW.reshape(rank, -1)[:, : _size(shape) // rank]


def _size(shape: tuple[int, ...]) -> int:
    total = 1
    for length in shape:
        total *= length
    return total


def _key(module: str, side: str, part: str) -> str:
    return f"{module}|{side}|{part}"
