from __future__ import annotations

import contextlib
import json
import math

import pytest
import torch
from adapter_factories import raw_safetensors
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load as library_load
from safetensors.torch import save as library_save

from lora_gen.errors import AdapterFormatError, AdapterLimitError, LoraGenError, UnsafeFileError
from lora_gen.safetensors_header import read_safetensors_header, read_tensors, serialize_tensors


def entry(shape=(2,), begin=0, end=8, dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def refused(path, error, sentence):
    with pytest.raises(error, match=sentence):
        read_safetensors_header(path)


def test_tensors_read_back_as_the_library_wrote_them(tmp_path):
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.bfloat16)}
    (tmp_path / "x.safetensors").write_bytes(library_save(tensors, {"format": "pt"}))
    read, header = read_tensors(tmp_path / "x.safetensors")
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())
    assert header.metadata == {"format": "pt"}


def test_the_library_reads_what_is_serialized(tmp_path):
    tensors = {"a": torch.randn(3, 2), "empty": torch.zeros(0, 3), "n": torch.tensor(7)}
    data = serialize_tensors(tensors, {"format": "pt", "other": "x"})
    assert all(torch.equal(library_load(data)[name], t) for name, t in tensors.items())
    (tmp_path / "x.safetensors").write_bytes(data)
    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt", "other": "x"}


def test_serialized_bytes_do_not_depend_on_order():
    tensors = {"b": torch.ones(2), "a": torch.zeros(3, dtype=torch.float16)}
    again = dict(reversed(tensors.items()))
    first = serialize_tensors(tensors, {"x": "1", "format": "pt"})
    assert first == serialize_tensors(again, {"format": "pt", "x": "1"})


@given(st.binary(max_size=200))
def test_random_bytes_never_raise_anything_else(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("fuzz") / "x.safetensors"
    path.write_bytes(data)
    with pytest.raises(LoraGenError):
        read_safetensors_header(path)


@given(st.integers(0, 400), st.integers(0, 255))
def test_one_changed_byte_never_raises_anything_else(tmp_path_factory, at, value):
    data = bytearray(serialize_tensors({"a.b": torch.ones(3, 2), "c": torch.ones(2)}))
    data[at % len(data)] = value
    path = tmp_path_factory.mktemp("fuzz") / "x.safetensors"
    path.write_bytes(data)
    with contextlib.suppress(LoraGenError):
        tensors, _ = read_tensors(path)
        assert sum(tensor.nbytes for tensor in tensors.values()) == 32


def test_header_refuses_empty_and_short_files(tmp_path):
    for data, sentence in ((b"", "is empty"), (b"ab", r"too short \(2 bytes\)")):
        path = tmp_path / "x.safetensors"
        path.write_bytes(data)
        refused(path, AdapterFormatError, sentence)


def test_header_refuses_lengths_beyond_the_limit(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes((8_000_001).to_bytes(8, "little") + b" " * 8_000_001)
    refused(path, AdapterLimitError, "header of 8000001 bytes, and at most 8000000")


@pytest.mark.parametrize("length", [2**63, 100_000_001, 17])
def test_header_refuses_lengths_beyond_the_file(tmp_path, length):
    path = tmp_path / "x.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + b"{}" * 8)
    refused(path, AdapterFormatError, f"has 24 bytes, but its header alone claims {length}")


def test_header_refuses_a_length_of_zero(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes((0).to_bytes(8, "little") + b"{}" * 8)
    refused(path, AdapterFormatError, "header of 0 bytes")


def test_header_refuses_too_many_tensors_before_parsing(tmp_path):
    header = {f"t{i}": entry((0,), 0, 0) for i in range(20_001)}
    path = raw_safetensors(tmp_path / "x.safetensors", header)
    refused(path, AdapterLimitError, "lists more than 20000 tensors")


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        (b'{"a\xff": 1}', "not valid UTF-8 JSON"),
        (b"{nothing}", "not valid UTF-8 JSON"),
        (b"[1, 2]", "does not begin with an object"),
        (b" {}", "does not begin with an object"),
        (b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}", "nested deeper than 32"),
        (b'{"a":' + b"[" * 40 + b"]" * 40 + b"}", "nested deeper than 32"),
        (b'{"a":' + b"9" * 5000 + b"}", "not valid UTF-8 JSON"),
        (b'{"__metadata__":{"a":1}}', "metadata that is not text to text"),
        (b'{"__metadata__":{"a":"1","a":"2"}}', "the key `a` is listed twice"),
    ],
)
def test_header_refuses_text_that_is_not_its_own_json(tmp_path, header, sentence):
    refused(raw_safetensors(tmp_path / "x.safetensors", header), AdapterFormatError, sentence)


@pytest.mark.parametrize("offsets", [(0, 8), (8, 16)])
def test_header_refuses_a_tensor_listed_twice(tmp_path, offsets):
    first, second = json.dumps(entry()), json.dumps(entry((2,), *offsets))
    header = f'{{"a":{first},"a":{second}}}'.encode()
    path = raw_safetensors(tmp_path / "x.safetensors", header, b"\0" * 16)
    refused(path, AdapterFormatError, "`a` is listed twice")


@pytest.mark.parametrize(
    ("header", "body", "sentence"),
    [
        ({"a": entry(), "b": entry((2,), 4, 12)}, 12, "`b` overlaps the tensor before it"),
        ({"a": entry(), "b": entry((2,), 12, 20)}, 20, "`b` leaves a hole"),
        ({"a": entry((2,), 4, 12)}, 12, "`a` leaves a hole"),
        ({"a": entry()}, 9, "1 bytes after its tensors"),
        ({"a": entry()}, 7, r"cut short \(7 of 8 data bytes\)"),
        ({"a": entry()}, 0, r"cut short \(0 of 8 data bytes\)"),
    ],
)
def test_header_refuses_data_that_is_not_covered_exactly(tmp_path, header, body, sentence):
    path = raw_safetensors(tmp_path / "x.safetensors", header, b"\0" * body)
    refused(path, AdapterFormatError, sentence)


@pytest.mark.parametrize(
    ("tensor", "error", "sentence"),
    [
        (entry((2,), 8, 0), AdapterFormatError, "spans -8 bytes, but its shape and dtype need 8"),
        (entry((2,), -8, 0), AdapterFormatError, "data_offsets that are not two whole numbers"),
        (entry((3,)), AdapterFormatError, "spans 8 bytes, but its shape and dtype need 12"),
        (entry((2**40, 2**40)), AdapterLimitError, "beyond 1099511627776 elements"),
        (entry((10**23,)), AdapterLimitError, "beyond 1099511627776 elements"),
        (entry((2.0,)), AdapterFormatError, "not a list of whole numbers"),
        (entry((True,)), AdapterFormatError, "not a list of whole numbers"),
        (entry((-2,)), AdapterFormatError, "not a list of whole numbers"),
        (entry((0, 10**15), 0, 0), AdapterLimitError, "beyond 1099511627776 elements"),
        (entry((1,) * 4000), AdapterLimitError, "has 4000 dimensions, and at most 4"),
        (entry(dtype="F8_E4M3"), AdapterFormatError, "has dtype `F8_E4M3`"),
        (entry(dtype=7), AdapterFormatError, "has dtype `7`"),
        ({**entry(), "more": 1}, AdapterFormatError, "exactly dtype, shape and data_offsets"),
        ("text", AdapterFormatError, "exactly dtype, shape and data_offsets"),
    ],
)
def test_header_refuses_impossible_tensors(tmp_path, tensor, error, sentence):
    path = raw_safetensors(tmp_path / "x.safetensors", {"a": tensor}, b"\0" * 8)
    refused(path, error, sentence)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("", "``"),
        ("a\nb", r"`a\\nb`"),
        ("a\x1b[31m", r"`a\\x1b\[31m`"),
        ("a\u202eb", r"`a\\u202eb`"),
        ("../a", r"`\.\./a`"),
        ("/etc", "`/etc`"),
        ("x" * 1_000_000, r"`x{79}…`"),
    ],
)
def test_header_refuses_hostile_names_and_shows_them_escaped(tmp_path, name, shown):
    path = raw_safetensors(tmp_path / "x.safetensors", {name: entry()}, b"\0" * 8)
    refused(path, AdapterFormatError, f"{shown} is not a tensor name")


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid", "run `git lfs pull`"),
        (b"PK\x03\x04" + b"\0" * 30, "this is a zip archive"),
        (b"\x80\x04\x95" + b"\0" * 30, "this is a Python pickle"),
        (b"<!DOCTYPE html><html>log in</html>", "this is an HTML page"),
        (b"\n  <html><body>", "this is an HTML page"),
        (b"GGUF" + b"\0" * 30, "this is a GGUF file"),
    ],
)
def test_header_names_files_of_another_kind(tmp_path, data, sentence):
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    refused(path, AdapterFormatError, sentence)


def test_header_refuses_what_is_not_a_file(tmp_path):
    refused(tmp_path / "absent", AdapterFormatError, "cannot be read")
    with pytest.raises(UnsafeFileError, match="is not a regular file"):
        read_safetensors_header(type(tmp_path)("/dev/null"))


def test_infinite_numbers_are_refused_in_a_header(tmp_path):
    assert math.isinf(float("1e999"))
    path = raw_safetensors(tmp_path / "x.safetensors", b'{"a":1e999}')
    refused(path, AdapterFormatError, "every number must be finite")
