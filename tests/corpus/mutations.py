"""Five valid adapters, and the ways to damage one of their files; every mutant has a number."""

from __future__ import annotations

import json
import random
import struct
from array import array
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from tests.corpus.build import (
    CONFIG,
    MODULES,
    PREFIX,
    WEIGHTS,
    config,
    f32,
    good_files,
    header_of,
    raw,
)
from tests.corpus.zips import adapter_members, zip_bytes

DIFFUSERS, ZIP = "pytorch_lora_weights.safetensors", "adapter.zip"
_NUMBERS = (0, 1, 2, 7, 8, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63)
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 512, 513, 10**9, 2**63, 10**30, 0.5, -0.0, 1e308),
    *("", "LORA", "lora", "F32", "../x", "(a+)+$", "\u202e", "x" * 5000, "os", "16"),
    *([], {}, [[]], [0, 8], [0, 10**15], {"a": {}}, [None], ["q_proj", 3], {"": 1}),
)


@dataclass(frozen=True)
class Sample:
    """A valid adapter: its files, and which of them is handed in (`.` for the folder)."""

    name: str
    files: dict[str, bytes]
    path: str = "."


def samples() -> list[Sample]:
    """Plain PEFT, rsLoRA in float16 with patterns, convolutions, Diffusers, and a zip."""
    return [
        Sample("peft", good_files()),
        Sample("rslora", _rslora()),
        Sample("conv", _conv()),
        Sample("diffusers", _diffusers()),
        Sample("zip", {ZIP: zip_bytes(adapter_members(good_files()))}, ZIP),
    ]


def _rslora() -> dict[str, bytes]:
    tensors = {}
    for module, rank in zip(MODULES, (2, 3), strict=True):
        for side, shape in (("A", (rank, 4)), ("B", (6, rank))):
            numbers = array("f", f32(*shape, seed=rank)[2])
            data = struct.pack(f"<{len(numbers)}e", *numbers)
            tensors[f"{PREFIX}{module}.lora_{side}.weight"] = ("F16", list(shape), data)
    fields = config(
        use_rslora=True, rank_pattern={"up_proj": 3}, alpha_pattern={"up_proj": 6}, lora_alpha=2.5
    )
    return {CONFIG: json.dumps(fields).encode(), WEIGHTS: raw(*header_of(tensors))}


def _conv() -> dict[str, bytes]:
    module = "down.0.conv"
    tensors = {
        f"{PREFIX}{module}.lora_A.weight": f32(2, 3, 3, 3, seed=1),
        f"{PREFIX}{module}.lora_B.weight": f32(5, 2, 1, 1, seed=2),
    }
    fields = config(target_modules=["conv"], task_type=None, future_field=[1])
    return {CONFIG: json.dumps(fields).encode(), WEIGHTS: raw(*header_of(tensors))}


def _diffusers() -> dict[str, bytes]:
    module = "unet.down_blocks.0.attn.to_q"
    tensors = {f"{module}.lora_A.weight": f32(2, 4, seed=1), f"{module}.lora_B.weight": f32(6, 2)}
    fields = {"r": 2, "lora_alpha": 4, "target_modules": ["to_q"]}
    text = json.dumps({f"unet.{name}": value for name, value in fields.items()})
    metadata = {"format": "pt", "lora_adapter_metadata": text}
    return {DIFFUSERS: raw(*header_of(tensors, __metadata__=metadata))}


@dataclass(frozen=True)
class Mutant:
    """A damaged file of a sample."""

    sample: Sample
    file: str
    data: bytes
    how: str


def mutant(seed: int, number: int, from_samples: list[Sample]) -> Mutant:
    """Mutant `number` of `seed`: the same bytes in every process."""
    source = random.Random(f"{seed}/{number}")
    sample = source.choice(from_samples)
    file = source.choice(sorted(sample.files))
    data, how = sample.files[file], []
    for _ in range(source.choice((1, 1, 1, 2, 4))):
        name, change = source.choice(_CHANGES)
        data = change(source, data, file)
        how.append(name)
    return Mutant(sample, file, data, "+".join(how))


def original(sample: Sample) -> Mutant:
    """The sample itself, unharmed."""
    file = next(iter(sample.files))
    return Mutant(replace(sample), file, sample.files[file], "none")


def _flip(source: random.Random, data: bytes, file: str) -> bytes:
    changed = bytearray(data)
    for _ in range(source.choice((1, 1, 2, 8)) if data else 0):
        changed[source.randrange(len(changed))] ^= 1 << source.randrange(8)
    return bytes(changed)


def _cut(source: random.Random, data: bytes, file: str) -> bytes:
    return data[: source.randrange(len(data) + 1)]


def _extend(source: random.Random, data: bytes, file: str) -> bytes:
    return data + source.choice((b"\0", b" ", b"PK\x03\x04", data[-50:], source.randbytes(20)))


def _span(source: random.Random, data: bytes, file: str) -> bytes:
    """Delete, repeat, move or overwrite a stretch."""
    begin = source.randrange(len(data) + 1)
    end = min(len(data), begin + source.choice((1, 2, 4, 8, 30, 200)))
    piece = source.choice((b"", data[begin:end] * 2, source.randbytes(end - begin), bytes(8)))
    at = source.randrange(len(data) + 1)
    return source.choice(
        (data[:begin] + piece + data[end:], data[:at] + data[begin:end] + data[at:])
    )


def _length(source: random.Random, data: bytes, file: str) -> bytes:
    """A length that lies: the header's in safetensors, any number in a zip."""
    number = source.choice(
        (*_NUMBERS, len(data), len(data) - 8, source.randrange(2 * len(data) + 2))
    )
    if file == ZIP:
        at = source.randrange(max(1, len(data) - 4))
        return data[:at] + struct.pack("<L", number & 0xFFFFFFFF) + data[at + 4 :]
    return struct.pack("<Q", number & (2**64 - 1)) + data[8:] if file != CONFIG else data


def _json(source: random.Random, data: bytes, file: str) -> bytes:
    """An edit of the config or the header that leaves the rest of the file well-formed."""
    if file == ZIP:
        return _flip(source, data, file)
    length = int.from_bytes(data[:8], "little") if file != CONFIG else len(data)
    begin = 0 if file == CONFIG else 8
    try:
        value = json.loads(data[begin : begin + length])
    except (ValueError, RecursionError):
        return _flip(source, data, file)
    text = _edited(source, value)
    return text if file == CONFIG else raw(text, data[begin + length :])


def _edited(source: random.Random, value: Any) -> bytes:
    place = value
    while isinstance(place, dict | list) and place:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = source.choice(keys)
        if source.random() < 0.4 or not isinstance(place[key], dict | list) or not place[key]:
            break
        place = place[key]
    if isinstance(place, dict | list) and place:
        _edit(source, place, key, keys)
    text = json.dumps(value)
    if source.random() < 0.1:
        text = (
            text[:-1] + f",{json.dumps(str(source.choice(_VALUES)))}:1}}"
            if text[-1] == "}"
            else text
        )
    if source.random() < 0.05:
        text = text.replace(": ", source.choice((": NaN,", ":", ": 1e999 ", ": -")), 1)
    return text.encode()


def _edit(source: random.Random, place: Any, key: Any, keys: list[Any]) -> None:
    kind = source.randrange(4)
    if kind == 0:
        del place[key]
    elif kind == 1:
        other = source.choice(keys)
        place[key], place[other] = place[other], place[key]
    elif kind == 2 and isinstance(place, dict):
        place[f"{key}{source.choice(('', '.x', '/', chr(0), 'A'))}"] = place.pop(key)
    else:
        place[key] = source.choice(_VALUES)


_CHANGES: tuple[tuple[str, Callable[[random.Random, bytes, str], bytes]], ...] = (
    ("flip", _flip),
    ("cut", _cut),
    ("extend", _extend),
    ("span", _span),
    ("length", _length),
    ("json", _json),
    ("json", _json),
)
