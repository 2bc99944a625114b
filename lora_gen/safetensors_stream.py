"""A safetensors file whose tensors are written piece by piece, as they are made.

The bytes are those that `serialize_tensors` gives for the same tensors, without holding them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from lora_gen.safetensors_header import DTYPE_BYTES, header_bytes

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class TensorFile:
    """An open file of known shapes; what is never written is zero.

    Args:
        path: File to create; it must not exist.
        shapes: Tensor name -> shape.
        dtype: The format's name of the one dtype, such as `BF16`.
        metadata: Free text to text.

    Raises:
        OSError: The disk has no room for the whole file, or refuses it.
    """

    def __init__(
        self,
        path: Path,
        shapes: Mapping[str, tuple[int, ...]],
        *,
        dtype: str = "F32",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self._width = DTYPE_BYTES[dtype]
        header: dict[str, Any] = (
            {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
        )
        self._begins: dict[str, int] = {}
        offset = 0
        for name in sorted(shapes):
            size = math.prod(shapes[name]) * self._width
            header[name] = {
                "dtype": dtype,
                "shape": list(shapes[name]),
                "data_offsets": [offset, offset + size],
            }
            self._begins[name] = offset
            offset += size
        start = header_bytes(header)
        self._data = len(start)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            # A full disk must be known now: a hole would only be refused piece by piece.
            os.posix_fallocate(self._file, 0, len(start) + offset)
            self._put(start, 0)
        except BaseException:
            os.close(self._file)
            raise

    def write(self, name: str, start: int, values: Tensor) -> None:
        """Put values of the file's dtype into tensor `name`, from element `start` on."""
        import torch

        data: Any = values.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        self._put(memoryview(data), self._data + self._begins[name] + start * self._width)

    def read(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """The first values of tensor `name`, as `shape`."""
        import torch

        buffer = bytearray(math.prod(shape) * self._width)
        os.preadv(self._file, [buffer], self._data + self._begins[name])
        return torch.frombuffer(buffer, dtype=dtype).view(shape)

    def sync(self) -> None:
        """Make what was written durable."""
        os.fsync(self._file)

    def __enter__(self) -> TensorFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._file)

    def _put(self, data: bytes | memoryview, offset: int) -> None:
        left = memoryview(data)
        while left:
            written = os.pwrite(self._file, left, offset)
            left, offset = left[written:], offset + written
