"""W01 to W40: weight files, built by hand as length, header and body."""

from __future__ import annotations

import json
import os
import pickle
import struct
from pathlib import Path
from typing import Any

from tests.corpus.build import (
    CONFIG,
    MODULES,
    PREFIX,
    WEIGHTS,
    Tensor,
    adapter,
    config,
    f32,
    header_of,
    lora,
    plain,
    raw,
    weights,
)
from tests.corpus.case import ADAPTER, OK, Build, add

A, B = (f"{PREFIX}{MODULES[0]}.lora_{side}.weight" for side in "AB")
READERS = ("load", "inspect", "doctor")


def data(content: bytes) -> Build:
    return lambda folder: adapter(folder, data=content)


def header(text: bytes | dict[str, Any], body: bytes = b"") -> Build:
    return data(raw(text, body))


def changed(name: str = A, **fields: Any) -> Build:
    """The good file with fields of one header entry replaced."""
    entries, body = header_of(plain())
    return header({**entries, name: {**entries[name], **fields}}, body)


def sparse(size: int, length: int) -> Build:
    """A file of `size` bytes that holds nothing but a claim; it costs no disk."""

    def build(folder: Path) -> Path:
        adapter(folder, data=length.to_bytes(8, "little"))
        os.truncate(folder / WEIGHTS, size)
        return folder

    return build


def values(*bad: float, factor: float = 0.0, dtype: str = "F32") -> Build:
    """The good tensors with the last values of A replaced, or all scaled."""
    kind, width = ("e", 2) if dtype == "F16" else ("f", 4)

    def build(folder: Path) -> Path:
        tensors: dict[str, Tensor] = {}
        for name, (_, shape, content) in plain().items():
            numbers = list(struct.unpack(f"<{len(content) // 4}f", content))
            if factor:
                numbers = [factor] * len(numbers)
            elif name == A and bad:
                numbers[-len(bad) :] = bad
            packed = struct.pack(f"<{len(numbers)}{kind}", *numbers)
            assert len(packed) == width * len(numbers)
            tensors[name] = (dtype, shape, packed)
        return adapter(folder, tensors=tensors)

    return build


def one_nan_in_ten_million(folder: Path) -> Path:
    body = bytearray(4 * 10**7)
    body[-4:] = struct.pack("<f", float("nan"))
    tensors = {A: f32(1, 10**7, data=bytes(body)), B: f32(6, 1)}
    return adapter(folder, tensors=tensors, r=1, lora_alpha=1, target_modules=["q_proj"])


def zero_b(folder: Path) -> Path:
    tensors = {
        name: (dtype, shape, bytes(len(body)) if "lora_B" in name else body)
        for name, (dtype, shape, body) in plain().items()
    }
    return adapter(folder, tensors=tensors)


class Canary:
    """Unpickled, it leaves a file in the working folder."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("canary",)


def only_pickle(folder: Path) -> Path:
    adapter(folder)
    (folder / WEIGHTS).unlink()
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(Canary()))
    return folder


def corrupt_beside_pickle(folder: Path) -> Path:
    adapter(folder, data=weights()[:-1])
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(Canary()))
    return folder


def pipe(name: str) -> Build:
    """A named pipe, which blocks whoever opens it to read."""

    def build(folder: Path) -> Path:
        adapter(folder)
        (folder / name).unlink()
        os.mkfifo(folder / name)
        return folder

    return build


def device_link(folder: Path) -> Path:
    adapter(folder)
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to("/dev/zero")
    return folder


def alone(name: str, content: bytes) -> Build:
    """One file, handed in by itself."""

    def build(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return build


GOOD = weights()
ENTRIES, BODY = header_of(plain())
TWICE = json.dumps(ENTRIES)
DEEP = b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}"
HTML = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body></body></html>"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"
F = "FORMAT"

add("W01", "empty", data(b""), F, "is empty")
add("W02", "two-bytes", data(b"ab"), F, r"too short \(2 bytes\)")
add("W03", "length-2-63", data(raw(ENTRIES, BODY, length=2**63)), (F, "LIMIT"), "header alone")
add(
    "W04",
    "length-above-cap",
    sparse(200_000_000, 100_000_001),
    "LIMIT",
    "at most 8000000",
    entrances=READERS,
)
add("W05", "length-beyond-file", data(raw(ENTRIES, BODY, length=len(GOOD))), F, "header alone")
add("W06", "length-zero", data(raw(ENTRIES, BODY, length=0)), F, "header of 0 bytes")
add(
    "W07",
    "header-of-86-megabytes",
    sparse(86_000_008, 86_000_000),
    "LIMIT",
    "at most 8000000",
    entrances=READERS,
)
add(
    "W07",
    "too-many-tensors",
    header(
        {f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(20_001)}
    ),
    "LIMIT",
    "more than 20000 tensors",
)
add(
    "W07",
    "file-beyond-limit",
    sparse(1_000_000_001, 8),
    "LIMIT",
    "at most 1000000000",
    entrances=READERS,
)
add("W08", "not-utf8", header(b'{"a\xff": 1}'), F, "UTF-8 JSON")
add("W09", "not-json", header(b"{nothing}"), F, "UTF-8 JSON")
add("W10", "array", header(b"[1, 2]"), F, "does not begin with an object")
add("W11", "nested", header(DEEP), F, "nested deeper than 32")
add("W12", "leading-space", header(b" " + json.dumps(ENTRIES).encode(), BODY), F, "begin with an o")
add(
    "W13",
    "key-twice-same-offsets",
    header((TWICE[:-1] + "," + json.dumps({A: ENTRIES[A]})[1:]).encode(), BODY),
    F,
    "listed twice",
)
add(
    "W14",
    "key-twice-other-offsets",
    header((TWICE[:-1] + "," + json.dumps({A: ENTRIES[B]})[1:]).encode(), BODY),
    F,
    "listed twice",
)
add(
    "W15", "metadata-number", header({**ENTRIES, "__metadata__": {"a": 1}}, BODY), F, "text to text"
)
add("W15", "metadata-list", header({**ENTRIES, "__metadata__": []}, BODY), F, "text to text")
add(
    "W16",
    "metadata-twice",
    header((TWICE[:-1] + ',"__metadata__":{"format":"np"}}').encode(), BODY),
    F,
    "listed twice",
)
add("W17", "overlap", changed(B, data_offsets=[0, 48]), F, "overlaps|hole")
add("W18", "hole", header({k: v for k, v in ENTRIES.items() if k != B}, BODY), F, "hole")
add("W19", "trailing-byte", data(GOOD + b"\0"), F, "1 bytes after its tensors")
add("W19", "zip-appended", data(GOOD + b"PK\x03\x04" + bytes(60)), F, "bytes after its tensors")
add("W20", "cut-by-one", data(GOOD[:-1]), F, "cut short")
add("W20", "cut-in-half", data(GOOD[: len(GOOD) - len(BODY) // 2]), F, "cut short")
add("W20", "header-only", data(GOOD[: -len(BODY)]), F, "cut short")
add("W21", "reversed-offsets", changed(data_offsets=[32, 0]), F, "spans -32 bytes")
add("W21", "negative-offsets", changed(data_offsets=[-32, 0]), F, "two whole numbers")
add("W22", "shape-and-dtype-differ", changed(shape=[2, 5]), F, "need 40")
add("W22", "dtype-of-other-size", changed(dtype="F16"), F, "need 16")
add("W23", "product-overflow", changed(shape=[2**33, 2**33]), "LIMIT", "beyond")
add("W24", "float-dimension", changed(shape=[2.0, 4]), F, "whole numbers")
add("W24", "huge-dimension", changed(shape=[10**22, 4]), "LIMIT", "beyond")
add("W24", "true-dimension", changed(shape=[True, 8]), F, "whole numbers")
add("W25", "empty-times-huge", changed(shape=[0, 10**15], data_offsets=[0, 0]), "LIMIT", "beyond")
add(
    "W25",
    "empty-factor",
    lambda folder: adapter(folder, tensors={**plain(), A: f32(2, 0), B: f32(6, 2)}),
    "MISMATCH",
    "empty dimension",
)
add("W26", "4000-dimensions", changed(shape=[1] * 4000), "LIMIT", "4000 dimensions")
add(
    "W26",
    "three-dimensions",
    lambda folder: adapter(folder, tensors={**plain(), A: f32(2, 2, 2)}),
    "MISMATCH",
    "2 dimensions",
)
add(
    "W27",
    "scalar",
    lambda folder: adapter(folder, tensors={**plain(), A: f32()}),
    "MISMATCH",
    "shape",
)
add("W28", "unknown-dtype", changed(dtype="F12"), F, "dtype `F12`")
add("W28", "fp8", changed(dtype="F8_E4M3"), F, "dtype `F8_E4M3`")
add("W28", "whole-numbers", changed(dtype="I32"), F, "must be floating point")
for label, number in (("nan", float("nan")), ("inf", float("inf")), ("minus-inf", float("-inf"))):
    add("W29", label, values(number), "VALUES", r"lora_A` has 1 values of 8")
add("W29", "one-in-ten-million", one_nan_in_ten_million, "VALUES", "1 values of 10000000")
add("W30", "absurd-product", values(factor=1e15), "VALUES", "norm 1e.30|norm [0-9.]+e.3[01]")
add(
    "W31",
    "overflow-after-scaling",
    lambda folder: (
        values(factor=60000.0, dtype="F16")(folder),
        (folder / CONFIG).write_text(json.dumps(config(lora_alpha=65536))),
        folder,
    )[-1],
    "VALUES",
    "norm|infinite|overflow",
)
add("W32", "untrained", zero_b, OK, entrances=READERS, warns="no effect")
for label, bad in (
    ("newline", "a\nb"),
    ("escape-code", "a\x1b[31mb"),
    ("right-to-left", "a\u202eb"),
    ("dots", "../a"),
    ("empty", ""),
    ("megabyte", "x" * 10**6),
):
    add(
        "W33",
        label,
        header({**{k: v for k, v in ENTRIES.items() if k != A}, bad: ENTRIES[A]}, BODY),
        F,
        "is not a tensor name",
    )
add("W33", "surrogate", header(TWICE.replace(MODULES[0], "a\\ud800", 2).encode(), BODY), F, "name")
add("W34", "pickle", data(pickle.dumps({"a": [1] * 40})), F, "Python pickle: it is never opened")
add(
    "W34",
    "pickle-alone",
    alone("x.bin", pickle.dumps(Canary())),
    "UNSAFE",
    "never opened",
    entrances=ADAPTER[:-2],
)
add("W35", "zip", data(b"PK\x03\x04" + bytes(60)), F, "this is a zip archive")
add("W36", "lfs-pointer", data(LFS), F, "Git LFS pointer: run `git lfs pull`")
add("W37", "login-page", data(HTML), F, "HTML page, perhaps a login page")
add("W38", "only-a-pickle", only_pickle, "UNSAFE", "pickle.*never opened")
add("W39", "corrupt-beside-a-pickle", corrupt_beside_pickle, F, "cut short")
add(
    "W40",
    "weights-are-a-pipe",
    pipe(WEIGHTS),
    ("UNSAFE", F),
    "regular file|no `adapter_model",
    entrances=READERS,
)
add(
    "W40", "config-is-a-pipe", pipe(CONFIG), ("UNSAFE", "CONFIG"), "regular file", entrances=READERS
)
add(
    "W40",
    "weights-are-a-device",
    device_link,
    ("UNSAFE", F),
    "regular file|no `adapter_model",
    entrances=READERS,
)
add("W00", "good", adapter, OK, entrances=(*READERS, "archive_of"))
add("W00", "missing", lambda folder: folder / "absent", F, "does not exist", entrances=ADAPTER[:-2])
add("W00", "name-too-long", lambda folder: folder / ("x" * 5000), F, "", entrances=ADAPTER[:-2])
add(
    "W00",
    "one-module",
    lambda folder: adapter(folder, tensors=lora(), target_modules=["q_proj"]),
    OK,
    entrances=READERS,
)
