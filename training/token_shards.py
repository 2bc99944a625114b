"""Tokens of a zoo: in memory-mapped shards, or made of its adapters whenever they are asked for.

Memory does not grow with the zoo in either way. Shards hold as many values as the zoo and are read
at once; streaming keeps nothing, and pays a read and a canonical form for each adapter of a batch.

A shard is named by the entries in it and is published by one rename, so a run that stopped goes on
with the next shard, and a zoo that grew makes new shards alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lora_gen.files import make_folder, read_safetensors_header, sync_folder
from lora_gen.safetensors_stream import TensorFile
from lora_gen.strict_json import Limits

SHARD_BYTES = 2**30
_TENSOR = "tokens"
_OURS = Limits(file_bytes=2**50)


class TokenShards:
    """Tokens of entries, float16, in the order of `ids`.

    Args:
        folder: Where shards lie; one folder a layout and scaling.
        ids: Entries; two runs share the shards that hold the same ones.
        shape: Tokens of one adapter and their width (N, D).
        encode: Id -> tokens (N, D); called for what no shard holds yet, one at a time.
        shard_bytes: Size of a shard, about.
    """

    def __init__(
        self,
        folder: Path,
        ids: Sequence[str],
        shape: tuple[int, int],
        encode: Callable[[str], Tensor],
        *,
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        make_folder(folder)
        self._shape = shape
        self.rows_a_shard = max(1, shard_bytes // (2 * shape[0] * shape[1]))
        self._maps = [
            self._shard(folder, ids[start : start + self.rows_a_shard], encode)
            for start in range(0, len(ids), self.rows_a_shard)
        ]

    def rows(self, indices: Sequence[int]) -> Tensor:
        """Tokens of those entries, (M, N, D) float32; nothing else is read from the disk."""
        found = [
            self._maps[index // self.rows_a_shard][index % self.rows_a_shard] for index in indices
        ]
        stacked = np.stack(found).astype(np.float32) if found else np.empty((0, *self._shape))
        return torch.from_numpy(stacked).float()

    def _shard(
        self, folder: Path, ids: Sequence[str], encode: Callable[[str], Tensor]
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.float16]]:
        path = folder / f"{blake2b(' '.join(ids).encode(), digest_size=12).hexdigest()}.safetensors"
        shape = (len(ids), *self._shape)
        if not path.is_file():
            self._fill(path, ids, encode)
        start = read_safetensors_header(path, _OURS).data_start
        return np.memmap(path, dtype=np.float16, mode="r", offset=start, shape=shape)

    def _fill(self, path: Path, ids: Sequence[str], encode: Callable[[str], Tensor]) -> None:
        temp = path.with_suffix(f".{os.getpid()}.part")
        temp.unlink(missing_ok=True)  # of a run with this number that was killed
        size = self._shape[0] * self._shape[1]
        try:
            with TensorFile(temp, {_TENSOR: (len(ids), *self._shape)}, dtype="F16") as file:
                for row, entry_id in enumerate(ids):
                    file.write(_TENSOR, row * size, encode(entry_id).half())
                file.sync()
            temp.rename(path)
            sync_folder(path.parent)
        finally:
            temp.unlink(missing_ok=True)


class StreamedTokens:
    """Tokens of entries, made of the zoo's own files for each batch: there is no second copy.

    Args:
        ids: Entries.
        shape: Tokens of one adapter and their width (N, D).
        encode: Id -> tokens (N, D).
    """

    def __init__(
        self, ids: Sequence[str], shape: tuple[int, int], encode: Callable[[str], Tensor]
    ) -> None:
        self._ids, self._shape, self._encode = tuple(ids), shape, encode

    def rows(self, indices: Sequence[int]) -> Tensor:
        """Tokens of those entries, (M, N, D) float32, rounded as shards keep them."""
        found = torch.empty(len(indices), *self._shape, dtype=torch.float16)
        for row, index in enumerate(indices):
            found[row] = self._encode(self._ids[index])
        return found.float()
