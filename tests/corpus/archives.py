"""Z01 to Z11: zip files."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from tests.corpus.build import CONFIG, WEIGHTS, good_files
from tests.corpus.case import ARCHIVE, OK, Build
from tests.corpus.case import add as register
from tests.corpus.zips import DEVICE, FOLDER, LINK, Member, adapter_members, write_zip, zip_bytes

Z, LIMIT = "ARCHIVE", "LIMIT"
GOOD = good_files()
ZEROS = bytes(50_000_000)


def add(number: str, name: str, build: Build, codes: Any, says: str = "") -> None:
    register(number, name, build, codes, says, entrances=ARCHIVE)


def archive(*more: Member, **lies: Any) -> Build:
    """The good adapter with further members."""
    return lambda folder: write_zip(folder / "x.zip", [*adapter_members(GOOD), *more], **lies)


def only(*members: Member, **lies: Any) -> Build:
    return lambda folder: write_zip(folder / "x.zip", members, **lies)


def good(**fields: Any) -> list[Member]:
    """The good members, the weights with lies."""
    members = adapter_members(GOOD)
    for name, value in fields.items():
        setattr(members[1], name, value)
    return members


def changed(edit: Any) -> Build:
    """The bytes of the good archive after `edit`."""

    def build(folder: Path) -> Path:
        (folder / "x.zip").write_bytes(edit(zip_bytes(adapter_members(GOOD))))
        return folder / "x.zip"

    return build


def bomb(folder: Path) -> Path:
    members = [Member(name=CONFIG, data=GOOD[CONFIG]), Member(name=WEIGHTS, data=ZEROS)]
    return write_zip(folder / "x.zip", members)


def many(folder: Path) -> Path:
    members = [Member(name=f"f{i}", method=0) for i in range(100_000)]
    return write_zip(folder / "x.zip", members, count=3)


def many_told(folder: Path) -> Path:
    return write_zip(folder / "x.zip", [Member(name=f"f{i}", method=0) for i in range(65)])


def shared(folder: Path) -> Path:
    """Two names for the bytes of one member."""
    first = Member(name=WEIGHTS, data=GOOD[WEIGHTS])
    second = Member(name=WEIGHTS, data=GOOD[WEIGHTS], offset=0)
    config = Member(name=CONFIG, data=GOOD[CONFIG])
    second.name = second.local_name = WEIGHTS
    return write_zip(folder / "x.zip", [first, config, _renamed(second)])


def _renamed(member: Member) -> Member:
    member.name = "other.txt"
    return member


def quoted(folder: Path) -> Path:
    """A member whose data holds the next member, as overlap bombs do."""
    inner = zip_bytes([Member(name=CONFIG, data=GOOD[CONFIG], method=0)])
    inner = inner[: inner.index(b"PK\x01\x02")]
    outer = Member(name=WEIGHTS, data=inner, method=0)
    at = 30 + len(WEIGHTS)
    hidden = Member(name=CONFIG, data=GOOD[CONFIG], method=0, offset=at)
    return write_zip(folder / "x.zip", [outer, hidden])


for label, name in (
    ("parent", "../x"),
    ("parent-inside", "a/../../x"),
    ("absolute", "/etc/x"),
    ("drive", "C:/x"),
    ("drive-letter", "c:x"),
    ("share", "//server/x"),
    ("backslash", "a\\x"),
    ("backslash-parent", "..\\x"),
    ("dot", "./x"),
    ("empty-part", "a//x"),
    ("newline", "a\nx"),
    ("escape", "a\x1b[2Jx"),
    ("right-to-left", "a\u202ex"),
    ("nul", "a\0x"),
    ("empty", ""),
):
    add("Z01", label, archive(Member(name=name)), Z, "is not a name inside the archive")
for label, mode in (
    ("symbolic", LINK),
    ("device", DEVICE),
    ("pipe", 0o010644),
    ("folder-mode", FOLDER),
):
    add(
        "Z02", label, archive(Member(name="x", data=b"/etc/passwd", mode=mode)), Z, "link or device"
    )
add("Z02", "weights", only(*good(mode=LINK)), Z, "link or device")
add("Z03", "case", archive(Member(name=CONFIG.upper())), Z, "are one name")
add("Z03", "normalization", archive(Member(name="e\u0301"), Member(name="\u00e9")), Z, "are one n")
add("Z03", "ligature", archive(Member(name="\ufb01"), Member(name="fi")), Z, "are one name")
add("Z04", "config-twice", archive(Member(name=CONFIG, data=b"{}")), Z, "are one name")
add("Z04", "other-twice", archive(Member(name="x"), Member(name="x")), Z, "are one name")
add("Z05", "thousand-to-one", bomb, LIMIT, "looks like a bomb")
add("Z05", "in-an-ignored-member", archive(Member(name="x", data=ZEROS)), LIMIT, "like a bomb")
add("Z06", "stream-larger-than-told", only(*good(size=100)), LIMIT, "more than the 100 bytes")
add("Z06", "stream-smaller-than-told", only(*good(size=10_000)), Z, "checksum differs")
add("Z06", "stored-sizes-differ", only(*good(method=0, size=100)), Z, "two sizes differ")
add(
    "Z06",
    "three-gigabytes-told",
    only(*good(size=3_000_000_000)),
    LIMIT,
    "at most (2000000000|512000000)",
)
add(
    "Z06",
    "local-header-disagrees",
    changed(lambda b: b[:22] + struct.pack("<L", 7) + b[26:]),
    Z,
    "contradicts the archive's directory",
)
add("Z07", "same-bytes-twice", shared, Z, "overlap|contradicts")
add("Z07", "member-inside-a-member", quoted, Z, "overlap")
add(
    "Z08", "nested-zip", archive(Member(name="x.zip", data=zip_bytes([]))), LIMIT, "inside the arch"
)
add("Z08", "nested-tar", archive(Member(name="x/y.TAR.GZ", data=b"x")), LIMIT, "inside the archive")
add("Z09", "100000-members", many, LIMIT, "members are read")
add("Z09", "65-members", many_told, LIMIT, "at most 64 members")
add("Z10", "encrypted", only(*good(flags=0x801)), Z, "is encrypted")
add("Z10", "strongly-encrypted", only(*good(flags=0x841)), Z, "is encrypted")
add("Z10", "bad-checksum", only(*good(crc=1)), Z, "checksum differs")
add("Z10", "bad-stream", only(*good(packed=b"\xff" * 40)), Z, "is damaged")
add("Z10", "cut-stream", only(*good(packed=b"\x00")), Z, "cut short|checksum|damaged")
add(
    "Z10",
    "bytes-behind-the-stream",
    only(*good(packed=b"\x03\x00\x00\x00", size=0, crc=0)),
    Z,
    "bytes behind its data",
)
add("Z10", "cut-in-half", changed(lambda b: b[: len(b) // 2]), Z, "no zip file, or is cut short")
add("Z10", "cut-by-one", changed(lambda b: b[:-1]), Z, "cut short")
add("Z10", "empty", changed(lambda b: b""), Z, "no zip file")
add("Z10", "no-members", only(), Z, "has no `adapter_model.safetensors`")
add("Z10", "junk-prefix", archive(prefix=b"MZ" + bytes(60)), Z, "perhaps another file in front")
add("Z10", "junk-suffix", changed(lambda b: b + b"junk"), Z, "bytes behind its end")
add(
    "Z10",
    "hole-between-members",
    only(*[Member(name=name, data=data, descriptor=b"hidden data") for name, data in GOOD.items()]),
    Z,
    "belong to no member",
)
add("Z10", "300-character-name", archive(Member(name="x" * 300)), Z, "at most 255 characters")
add("Z10", "file-and-folder", archive(Member(name="a"), Member(name="a/b")), Z, "both a file and")
add("Z10", "folder-with-content", archive(Member(name="a/", data=b"x", mode=FOLDER)), Z, "content")
for needed in (64, 235, 0xFFFF):
    add("Z10", f"version-{needed}", only(*good(needed=needed)), Z, f"version {needed} of the zip")
for method in (1, 9, 12, 14, 93, 99):
    add(
        "Z10",
        f"method-{method}",
        only(*good(method=method, packed=b"x" * 9)),
        Z,
        f"method {method}",
    )
add(
    "Z10",
    "name-not-utf8",
    changed(lambda b: b.replace(CONFIG.encode(), b"\xff" * len(CONFIG))),
    Z,
    "not UTF-8",
)
add("Z10", "safetensors", lambda folder: _file(folder, GOOD[WEIGHTS]), Z, "no zip file")
add(
    "Z11",
    "code-beside",
    archive(
        *(
            Member(name=n, data=b"import os; os.mkdir('canary')")
            for n in ("setup.py", "a.so", "b.pkl", "conftest.py", "sitecustomize.py")
        )
    ),
    OK,
)
add(
    "Z11",
    "two-adapters",
    only(*adapter_members(GOOD, "a/"), *adapter_members(GOOD, "b/")),
    Z,
    r"holds 2 adapters \(`a`, `b`\)",
)
add(
    "Z11",
    "nested-adapter",
    only(*adapter_members(GOOD), *adapter_members(GOOD, "checkpoint-1/")),
    Z,
    "holds 2 adapters",
)
add(
    "Z11",
    "only-a-pickle",
    only(Member(name=CONFIG, data=GOOD[CONFIG]), Member(name="adapter_model.bin", data=b"x")),
    "UNSAFE",
    "pickle and is never opened",
)
add("Z00", "good", archive(), OK)


def _file(folder: Path, data: bytes) -> Path:
    (folder / "x.zip").write_bytes(data)
    return folder / "x.zip"
