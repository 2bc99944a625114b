from __future__ import annotations

import errno
import os

import pytest
import torch

from lora_gen.safetensors_header import read_tensors, serialize_tensors
from lora_gen.safetensors_stream import TensorFile

TENSORS = {
    "b.second": torch.arange(12, dtype=torch.float32).view(3, 4),
    "a.first": torch.arange(5, dtype=torch.float32) / 3,
}
SHAPES = {name: tuple(tensor.shape) for name, tensor in TENSORS.items()}


def test_pieces_give_the_bytes_of_the_whole(tmp_path):
    with TensorFile(tmp_path / "x", SHAPES, metadata={"format": "pt"}) as file:
        for start in (8, 0, 4):
            file.write("b.second", start, TENSORS["b.second"].flatten()[start : start + 4])
        file.write("a.first", 0, TENSORS["a.first"])
    assert (tmp_path / "x").read_bytes() == serialize_tensors(TENSORS, {"format": "pt"})


def test_what_is_never_written_is_zero(tmp_path):
    with TensorFile(tmp_path / "x", SHAPES) as file:
        file.write("b.second", 4, torch.ones(4))
        assert torch.equal(file.read("b.second", (2, 4), torch.float32)[1], torch.ones(4))
    tensors, _ = read_tensors(tmp_path / "x")
    assert tensors["b.second"].sum() == 4
    assert not bool(tensors["a.first"].any())


def test_full_disk_is_known_before_the_first_value(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="No space left"):
        TensorFile(tmp_path / "x", SHAPES)
    assert len(os.listdir("/proc/self/fd")) == before


def test_existing_file_is_not_overwritten(tmp_path):
    (tmp_path / "x").write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        TensorFile(tmp_path / "x", SHAPES)
    assert (tmp_path / "x").read_bytes() == b"mine"
