from __future__ import annotations

import os
import resource

import pytest
import torch
from safetensors.torch import load_file

from training.token_shards import StreamedTokens, TokenShards

SHAPE = (6, 5)
IDS = [f"id{i}" for i in range(7)]


class Encoder:
    """Tokens of an id, and which ids were asked for."""

    def __init__(self, broken: str = "") -> None:
        self.asked: list[str] = []
        self.broken = broken

    def __call__(self, entry_id: str) -> torch.Tensor:
        if entry_id == self.broken:
            raise OSError("the disk is gone")
        self.asked.append(entry_id)
        return torch.full(SHAPE, float(entry_id.removeprefix("id")))


def _shards(folder, ids=IDS, encode=None, rows=3):
    shard_bytes = rows * 2 * SHAPE[0] * SHAPE[1]
    return TokenShards(folder, ids, SHAPE, encode or Encoder(), shard_bytes=shard_bytes)


def test_rows_are_those_of_the_ids_across_shards(tmp_path):
    found = _shards(tmp_path).rows([6, 0, 3])
    assert found.shape == (3, *SHAPE)
    assert found[:, 0, 0].tolist() == [6, 0, 3]
    assert _shards(tmp_path).rows([]).shape == (0, *SHAPE)


def test_shards_are_plain_safetensors(tmp_path):
    _shards(tmp_path)
    sizes = sorted(len(load_file(path)["tokens"]) for path in tmp_path.iterdir())
    assert sizes == [1, 3, 3]


def test_second_run_encodes_nothing(tmp_path):
    _shards(tmp_path)
    encode = Encoder()
    _shards(tmp_path, encode=encode)
    assert encode.asked == []


def test_zoo_that_grew_makes_new_shards_alone(tmp_path):
    _shards(tmp_path)
    encode = Encoder()
    _shards(tmp_path, ids=[*IDS, "id7"], encode=encode)
    assert encode.asked == ["id6", "id7"]


def test_run_that_stopped_goes_on_with_the_next_shard(tmp_path):
    with pytest.raises(OSError, match="the disk is gone"):
        _shards(tmp_path, encode=Encoder(broken="id4"))
    assert [path.suffix for path in tmp_path.iterdir()] == [".safetensors"]
    encode = Encoder()
    assert _shards(tmp_path, encode=encode).rows([5])[0, 0, 0] == 5
    assert encode.asked == ["id3", "id4", "id5", "id6"]


def test_part_of_a_killed_run_is_overwritten(tmp_path):
    made = _shards(tmp_path)
    for path in list(tmp_path.iterdir()):
        path.rename(path.with_suffix(f".{os.getpid()}.part"))
    assert torch.equal(_shards(tmp_path).rows([2]), made.rows([2]))


def test_reading_does_not_hold_the_shards_in_memory(tmp_path):
    shape = (1024, 512)  # 1 MiB a row, 64 MiB in all
    store = TokenShards(tmp_path, [str(i) for i in range(64)], shape, lambda _: torch.ones(shape))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for index in range(4):
        store.rows([index])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024


def test_streamed_rows_are_those_of_the_shards(tmp_path):
    source = torch.Generator().manual_seed(0)
    known = {entry_id: torch.randn(SHAPE, generator=source) for entry_id in IDS}
    shards = _shards(tmp_path, encode=known.__getitem__)
    streamed = StreamedTokens(IDS, SHAPE, known.__getitem__)
    assert torch.equal(streamed.rows([6, 0, 3]), shards.rows([6, 0, 3]))
    assert streamed.rows([]).shape == (0, *SHAPE)


def test_streaming_keeps_neither_memory_nor_files(tmp_path):
    shape = (1024, 512)  # 2 MiB a row as it is encoded, 256 MiB in all
    store = StreamedTokens([str(i) for i in range(128)], shape, lambda _: torch.ones(shape))
    store.rows([0])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for index in range(128):
        store.rows([index])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024
    assert list(tmp_path.iterdir()) == []
