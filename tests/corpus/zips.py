"""Zip files from strangers, byte by byte where the standard library would not write them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FILE, FOLDER, LINK, DEVICE = 0o100644, 0o040755, 0o120777, 0o020600


@dataclass(kw_only=True)
class Member:
    """A member as it is written; what is not given is what an honest writer would put."""

    name: str
    data: bytes = b""
    packed: bytes | None = None
    method: int = 8
    flags: int = 0x800
    mode: int = FILE
    crc: int | None = None
    size: int | None = None
    local_name: str | None = None
    descriptor: bytes = b""
    offset: int | None = None
    extra: bytes = field(default=b"", repr=False)
    needed: int = 20


def deflate(data: bytes) -> bytes:
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return squeeze.compress(data) + squeeze.flush()


def zip_bytes(
    members: Iterable[Member],
    *,
    prefix: bytes = b"",
    comment: bytes = b"",
    count: int | None = None,
) -> bytes:
    """A zip file of exactly these members; `count` lies in the end record."""
    body, entries, written = bytearray(prefix), [], 0
    for member in members:
        offset = len(body) - len(prefix) if member.offset is None else member.offset
        entry, data = _headers(member, offset)
        if member.offset is None:
            body += data
        entries.append(entry)
        written += 1
    directory = b"".join(entries)
    count = written if count is None else count
    end = struct.pack(
        "<4s4H2LH",
        b"PK\x05\x06",
        *(0, 0, count & 0xFFFF, count & 0xFFFF, len(directory)),
        len(body) - len(prefix),
        len(comment),
    )
    return bytes(body) + directory + end + comment


def _headers(member: Member, offset: int) -> tuple[bytes, bytes]:
    packed = member.packed
    if packed is None:
        packed = deflate(member.data) if member.method == 8 else member.data
    crc = zlib.crc32(member.data) if member.crc is None else member.crc
    size = len(member.data) if member.size is None else member.size
    name = member.name.encode()
    local_name = name if member.local_name is None else member.local_name.encode()
    fields = (member.flags, member.method, 0, 33, crc, len(packed), size)
    local = struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, *fields, len(local_name), len(member.extra))
    central = struct.pack(
        "<4s6H3L5H2L",
        *(
            b"PK\x01\x02",
            0x0314,
            member.needed,
            *fields,
            len(name),
            0,
            0,
            0,
            0,
            member.mode << 16,
            offset,
        ),
    )
    return central + name, local + local_name + member.extra + packed + member.descriptor


def adapter_members(files: dict[str, bytes], folder: str = "") -> list[Member]:
    return [Member(name=folder + name, data=data) for name, data in files.items()]


def write_zip(path: Path, members: Sequence[Member], **lies: Any) -> Path:
    path.write_bytes(zip_bytes(members, **lies))
    return path
