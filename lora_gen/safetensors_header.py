"""Our own strict reader and writer of safetensors bytes; it runs before any library sees a file.

The format's library accepts duplicate keys, hostile names and absurd shapes, reads headers of 100
MB, and writes metadata in random order. Here a file is either exactly the specification, within
`Limits`, or refused. Files are read, never memory-mapped: a file that another process cuts short
then cannot end this one.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_gen.errors import AdapterFormatError, AdapterLimitError, UnsafeFileError
from lora_gen.strict_json import DEFAULT_LIMITS, Limits, open_regular, parse_json, printable

if TYPE_CHECKING:
    from torch import Tensor

DTYPE_BYTES: Mapping[str, int] = {
    **dict.fromkeys(("BOOL", "U8", "I8"), 1),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 2),
    **dict.fromkeys(("I32", "U32", "F32"), 4),
    **dict.fromkeys(("I64", "U64", "F64"), 8),
}
"""Readable dtypes and their size; FP8, FP4 and anything newer is refused by name."""

_TORCH_DTYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "I16": "int16",
    "U16": "uint16",
    "F16": "float16",
    "BF16": "bfloat16",
    "I32": "int32",
    "U32": "uint32",
    "F32": "float32",
    "I64": "int64",
    "U64": "uint64",
    "F64": "float64",
}
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-/]*")
_TENSOR_KEYS = {"dtype", "shape", "data_offsets"}
_HINTS: tuple[tuple[bytes, str], ...] = (
    (
        b"version https://git-lfs",
        "this is a Git LFS pointer: run `git lfs pull` to download the file itself",
    ),
    (
        b"PK\x03\x04",
        "this is a zip archive, perhaps a PyTorch pickle: it is never opened; convert it to "
        "safetensors",
    ),
    (b"\x80\x02", "this is a Python pickle: it is never opened; convert it to safetensors"),
    (b"\x80\x03", "this is a Python pickle: it is never opened; convert it to safetensors"),
    (b"\x80\x04", "this is a Python pickle: it is never opened; convert it to safetensors"),
    (b"\x80\x05", "this is a Python pickle: it is never opened; convert it to safetensors"),
    (b"GGUF", "this is a GGUF file: pass the safetensors file it was made from"),
    (b"\x1f\x8b", "this is a gzip archive: unpack it first"),
)


@dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """Where one tensor lies: dtype name, shape, and its bytes [begin, end) in the data section."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, kw_only=True)
class SafetensorsHeader:
    """A checked header: tensor name -> info, free metadata, and where the data section begins."""

    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]
    data_start: int


def read_safetensors_header(path: Path, limits: Limits = DEFAULT_LIMITS) -> SafetensorsHeader:
    """The checked header of a file; no tensor data is read.

    Raises:
        AdapterFormatError: The bytes are not exactly a safetensors file.
        AdapterLimitError: The file, its header or a shape exceeds `limits`.
        UnsafeFileError: The path is not a regular file.
    """
    with _open_regular(path) as file:
        return _read_header(file, path, limits)


def read_tensors(
    path: Path, limits: Limits = DEFAULT_LIMITS
) -> tuple[dict[str, Tensor], SafetensorsHeader]:
    """All tensors of a file in memory, with the header that was checked first.

    Raises:
        AdapterFormatError: As `read_safetensors_header`, or the file shrank while it was read.
        AdapterLimitError: As `read_safetensors_header`.
        UnsafeFileError: As `read_safetensors_header`.
    """
    import torch

    tensors: dict[str, Tensor] = {}
    with _open_regular(path) as file:
        header = _read_header(file, path, limits)
        for name, info in header.tensors.items():
            dtype = getattr(torch, _TORCH_DTYPES[info.dtype])
            if info.begin == info.end:
                tensors[name] = torch.empty(info.shape, dtype=dtype)
                continue
            file.seek(header.data_start + info.begin)
            buffer = bytearray(info.end - info.begin)
            if file.readinto(buffer) != len(buffer):
                raise AdapterFormatError(
                    f"`{path.name}` was cut short while it was read. Copy it first."
                )
            tensors[name] = torch.frombuffer(buffer, dtype=dtype).reshape(info.shape)
    return tensors, header


def serialize_tensors(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> bytes:
    """A safetensors file as bytes, sorted so that equal content gives equal bytes.

    Raises:
        AdapterFormatError: A tensor has a dtype that the format, or we, do not read.
    """
    import torch

    names = {getattr(torch, torch_name): name for name, torch_name in _TORCH_DTYPES.items()}
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    chunks: list[bytes] = []
    offset = 0
    for name, tensor in sorted(
        tensors.items(), key=lambda item: (-item[1].element_size(), item[0])
    ):
        if tensor.dtype not in names:
            raise AdapterFormatError(
                f"{printable(name)} is {tensor.dtype}, which safetensors files here do not hold."
            )
        data = _tensor_bytes(tensor)
        header[name] = {
            "dtype": names[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + len(data)],
        }
        chunks.append(data)
        offset += len(data)
    return b"".join((header_bytes(header), *chunks))


def header_bytes(header: Mapping[str, Any]) -> bytes:
    """The length and the JSON of a header, padded so that the data behind it is aligned."""
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _tensor_bytes(tensor: Tensor) -> bytes:
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def _open_regular(path: Path) -> BufferedReader:
    try:
        return open_regular(path)
    except UnsafeFileError:
        raise
    except OSError as cause:
        raise AdapterFormatError(f"`{path}` cannot be read ({cause.strerror}).") from cause


def _read_header(file: BufferedReader, path: Path, limits: Limits) -> SafetensorsHeader:
    size = os.fstat(file.fileno()).st_size
    name = f"`{path.name}`"
    if size < 8:
        raise AdapterFormatError(
            f"{name} is {'empty' if not size else f'too short ({size} bytes)'}. Download it again."
        )
    if size > limits.file_bytes:
        raise AdapterLimitError(
            f"{name} has {size} bytes, and at most {limits.file_bytes} are read."
        )
    start = file.read(512)
    length = int.from_bytes(start[:8], "little")
    _refuse_other_formats(start, name)
    if length < 2:
        raise AdapterFormatError(
            f"{name} has a header of {length} bytes, and a header needs 2. Download it again."
        )
    if length > size - 8:
        raise AdapterFormatError(
            f"{name} has {size} bytes, but its header alone claims {length}: it is cut short, or "
            "no safetensors file. Download it again."
        )
    if length > limits.header_bytes:
        raise AdapterLimitError(
            f"{name} claims a header of {length} bytes, and at most {limits.header_bytes} are read."
        )
    file.seek(8)
    text = file.read(length)
    if text[:1] != b"{":
        raise AdapterFormatError(
            f"{name} has a header that does not begin with an object. Export it again."
        )
    if text.count(b'"data_offsets"') > limits.tensors:
        raise AdapterLimitError(
            f"{name} lists more than {limits.tensors} tensors, the most that is read."
        )
    entries = parse_json(
        text, subject=f"The header of {name}", limits=limits, error=AdapterFormatError
    )
    metadata = _check_metadata(entries.pop("__metadata__", {}), name)
    tensors = {key: _check_tensor(key, entry, limits) for key, entry in entries.items()}
    _check_cover(tensors, size - 8 - length, name)
    return SafetensorsHeader(tensors=tensors, metadata=metadata, data_start=8 + length)


def _refuse_other_formats(start: bytes, name: str) -> None:
    hint = next((hint for magic, hint in _HINTS if start.startswith(magic)), None)
    if hint is None and re.match(rb"\s*<(!doctype|html|\?xml|head|body)", start.lower()):
        hint = "this is an HTML page, perhaps a login page: download the file itself"
    if hint is not None:
        raise AdapterFormatError(f"{name} is not a safetensors file; {hint}.")


def _check_metadata(metadata: Any, name: str) -> dict[str, str]:
    if not isinstance(metadata, dict) or not all(
        isinstance(value, str) for value in metadata.values()
    ):
        raise AdapterFormatError(
            f"{name} has header metadata that is not text to text. Export it again."
        )
    return metadata


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _check_tensor(name: str, entry: Any, limits: Limits) -> TensorInfo:
    shown = printable(name)
    if (
        len(name.encode("utf-8", "surrogatepass")) > limits.name_bytes
        or not _NAME.fullmatch(name)
        or ".." in name
    ):
        raise AdapterFormatError(
            f"{shown} is not a tensor name; names have 1 to {limits.name_bytes} letters, digits or "
            "`_.-/`, no `..`."
        )
    if not isinstance(entry, dict) or set(entry) != _TENSOR_KEYS:
        raise AdapterFormatError(
            f"{shown} must be described by exactly dtype, shape and data_offsets."
        )
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        raise AdapterFormatError(
            f"{shown} has dtype {printable(str(dtype))}; readable are {', '.join(DTYPE_BYTES)}. "
            "Convert it first."
        )
    if not isinstance(shape, list) or not all(_is_size(size) for size in shape):
        raise AdapterFormatError(
            f"{shown} has a shape that is not a list of whole numbers. Export it again."
        )
    if len(shape) > limits.dimensions:
        raise AdapterLimitError(
            f"{shown} has {len(shape)} dimensions, and at most {limits.dimensions} are read."
        )
    if any(size > limits.elements for size in shape) or math.prod(shape) > limits.elements:
        raise AdapterLimitError(f"{shown} has a shape beyond {limits.elements} elements.")
    if (
        not isinstance(offsets, list)
        or len(offsets) != 2
        or not all(_is_size(offset) for offset in offsets)
    ):
        raise AdapterFormatError(
            f"{shown} has data_offsets that are not two whole numbers. Export it again."
        )
    begin, end = offsets
    needed = math.prod(shape) * DTYPE_BYTES[dtype]
    if end - begin != needed:
        raise AdapterFormatError(
            f"{shown} spans {end - begin} bytes, but its shape and dtype need {needed}."
        )
    return TensorInfo(dtype=dtype, shape=tuple(shape), begin=begin, end=end)


def _check_cover(tensors: Mapping[str, TensorInfo], data_bytes: int, name: str) -> None:
    """The tensors fill the data section exactly: no overlap, no hole, nothing behind."""
    reached = 0
    for key, info in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if info.begin != reached:
            kind = (
                "overlaps the tensor before it"
                if info.begin < reached
                else "leaves a hole before it"
            )
            raise AdapterFormatError(f"{printable(key)} {kind} in {name}. Export it again.")
        reached = info.end
    if reached > data_bytes:
        raise AdapterFormatError(
            f"{name} is cut short ({data_bytes} of {reached} data bytes). Download it again."
        )
    if reached < data_bytes:
        raise AdapterFormatError(
            f"{name} has {data_bytes - reached} bytes after its tensors. Export it again."
        )
