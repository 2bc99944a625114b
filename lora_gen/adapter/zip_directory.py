"""A strict reader of a zip file's directory; no member is unpacked here.

Python's `zipfile` accepts junk in front, members that share bytes, and a directory that contradicts
the headers it points to. Here the file is exactly its members one behind the other, then their
directory, or it is refused. Sizes above 4 GB (zip64) are beyond our limits, and so is that format.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from io import BufferedReader

from lora_gen.errors import AdapterLimitError, ArchiveError
from lora_gen.limits import Limits
from lora_gen.strict_json import printable

STORED, DEFLATED = 0, 8

_END = struct.Struct("<4s4H2LH")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_ENTRY_BYTES = 4096
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_DESCRIPTOR = 0x8
_UTF8 = 0x800
_DESCRIPTOR_BYTES = (12, 16, 20, 24)
_ZIP64 = 0xFFFFFFFF
_NEWEST = 63
"""Version of the format, times ten, that `zipfile` knows; a newer one it refuses."""


@dataclass(frozen=True, kw_only=True)
class ZipEntry:
    """One member as the directory and its own header agree on it."""

    name: str
    method: int
    crc: int
    packed: int
    """Bytes in the archive."""

    size: int
    """Bytes it claims to unpack to."""

    mode: int
    """Unix file mode, 0 where the archive has none."""

    begin: int
    """Where its packed bytes begin."""


def read_directory(file: BufferedReader, name: str, limits: Limits) -> list[ZipEntry]:
    """The members of an open zip file, in the order of its directory.

    Args:
        file: Opened for reading bytes.
        name: What error sentences call the file, with back-quotes.
        limits: Bounds on the number of members and the size.

    Raises:
        ArchiveError: It is no zip file, or its members overlap, leave holes, contradict the
            directory, are encrypted or packed by an unknown method.
        AdapterLimitError: It is larger, or has more members, than `limits` allow.
    """
    size = os.fstat(file.fileno()).st_size
    if size > limits.archive_bytes:
        raise AdapterLimitError(
            f"{name} has {size} bytes, and at most {limits.archive_bytes} are read."
        )
    count, length, begin = _read_end(file, size, name)
    if count > limits.archive_members or length > limits.archive_members * _ENTRY_BYTES:
        raise AdapterLimitError(
            f"{name} lists {count} members in {length} bytes, and at most {limits.archive_members} "
            "members are read. Zip the adapter folder alone."
        )
    file.seek(begin)
    data = file.read(length)
    entries: list[ZipEntry] = []
    spans: list[tuple[int, int, bool]] = []
    position = 0
    for _ in range(count):
        entry, span, position = _read_entry(file, data, position, name)
        entries.append(entry)
        spans.append(span)
    if position != length:
        raise ArchiveError(f"{name} has a directory of another length than it says. Zip it again.")
    _require_side_by_side(spans, begin, name)
    return entries


def _read_end(file: BufferedReader, size: int, name: str) -> tuple[int, int, int]:
    """Number of members, length and begin of the directory, from the record at the file's end."""
    start = max(0, size - _END.size - 0xFFFF)
    file.seek(start)
    tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < _END.size:
        raise ArchiveError(f"{name} is no zip file, or is cut short. Download or zip it again.")
    _, disk, first, here, count, length, begin, comment = _END.unpack_from(tail, at)
    if at + _END.size + comment != len(tail):
        raise ArchiveError(f"{name} has bytes behind its end, or is cut short. Zip it again.")
    if disk or first or here != count or count == 0xFFFF or _ZIP64 in (length, begin):
        raise ArchiveError(
            f"{name} is split over several disks or is zip64, which is not read. Zip the adapter "
            "folder alone."
        )
    if begin + length != start + at:
        raise ArchiveError(
            f"{name} has {start + at - begin - length} bytes that belong to no member, perhaps "
            "another file in front. Zip it again."
        )
    return count, length, begin


def _read_entry(
    file: BufferedReader, data: bytes, position: int, name: str
) -> tuple[ZipEntry, tuple[int, int, bool], int]:
    """The entry at `position`, the bytes it covers, and the next position."""
    if len(data) - position < _ENTRY.size or data[position : position + 4] != b"PK\x01\x02":
        raise ArchiveError(f"{name} has a damaged directory. Download or zip it again.")
    fields = _ENTRY.unpack_from(data, position)
    _, _, needed, flags, method, _, _, crc, packed, size, *rest = fields
    name_bytes, extra, comment, _, _, attributes, offset = rest
    end = position + _ENTRY.size + name_bytes
    raw = data[end - name_bytes : end]
    if len(raw) < name_bytes or end + extra + comment > len(data):
        raise ArchiveError(f"{name} has a damaged directory. Download or zip it again.")
    try:
        member = raw.decode("utf-8" if flags & _UTF8 else "cp437")
    except UnicodeDecodeError as cause:
        raise ArchiveError(f"{name} has a member name that is not UTF-8. Zip it again.") from cause
    shown = printable(member)
    if flags & _ENCRYPTED:
        raise ArchiveError(f"{shown} in {name} is encrypted. Zip it without a password.")
    if method not in (STORED, DEFLATED):
        raise ArchiveError(
            f"{shown} in {name} is packed by method {method}; read are 0 (stored) and 8 (deflate). "
            "Zip it again."
        )
    if needed > _NEWEST:
        raise ArchiveError(
            f"{shown} in {name} asks for version {needed} of the zip format; read are versions to "
            f"{_NEWEST}. Zip it again."
        )
    if _ZIP64 in (packed, size, offset):
        raise ArchiveError(f"{shown} in {name} is a zip64 member, which is not read. Zip it again.")
    agreed = (
        (flags, method, raw) if flags & _DESCRIPTOR else (flags, method, raw, crc, packed, size)
    )
    begin = _require_local(file, offset, agreed, f"{shown} in {name}")
    entry = ZipEntry(
        name=member,
        method=method,
        crc=crc,
        packed=packed,
        size=size,
        mode=attributes >> 16,
        begin=begin,
    )
    return entry, (offset, begin + packed, bool(flags & _DESCRIPTOR)), end + extra + comment


def _require_local(
    file: BufferedReader, offset: int, agreed: tuple[object, ...], subject: str
) -> int:
    """Where the data begins, after the member's own header was compared with the directory."""
    file.seek(offset)
    header = file.read(_LOCAL.size)
    if len(header) < _LOCAL.size or header[:4] != b"PK\x03\x04":
        raise ArchiveError(f"{subject} has no header where the directory says. Zip it again.")
    _, _, flags, method, _, _, crc, packed, size, name_bytes, extra = _LOCAL.unpack(header)
    found = (flags, method, file.read(name_bytes), crc, packed, size)[: len(agreed)]
    if found != agreed:
        raise ArchiveError(f"{subject} contradicts the archive's directory. Zip it again.")
    return int(offset + _LOCAL.size + name_bytes + extra)


def _require_side_by_side(spans: list[tuple[int, int, bool]], end: int, name: str) -> None:
    """Check that members cover the file up to the directory: no overlap, no hole."""
    reached, has_descriptor = 0, False
    for begin, stop, descriptor in [*sorted(spans), (end, end, False)]:
        gap = begin - reached
        if gap < 0:
            raise ArchiveError(f"{name} has members that overlap. Zip it again.")
        if gap and not (has_descriptor and gap in _DESCRIPTOR_BYTES):
            raise ArchiveError(f"{name} has {gap} bytes that belong to no member. Zip it again.")
        reached, has_descriptor = stop, descriptor
