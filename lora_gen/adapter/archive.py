"""One adapter folder out of a zip file from a stranger.

The whole archive is judged before a byte is unpacked: names, kinds, sizes, overlap. Only files of
an adapter are unpacked, under names that stand here, and counted while they are; nothing else in
the archive is opened.
"""

from __future__ import annotations

import re
import shutil
import stat
import unicodedata
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path, PurePosixPath

from lora_gen.adapter.io import DIFFUSERS_NAME, PICKLE_SUFFIXES
from lora_gen.adapter.peft_config import CONFIG_NAME, WEIGHTS_NAME
from lora_gen.adapter.zip_directory import STORED, ZipEntry, read_directory
from lora_gen.errors import (
    AdapterLimitError,
    ArchiveError,
    LoraGenError,
    OutputPathError,
    StorageError,
    UnsafeFileError,
)
from lora_gen.limits import DEFAULT_LIMITS, Limits
from lora_gen.strict_json import open_regular, printable

READ_NAMES = (CONFIG_NAME, WEIGHTS_NAME, DIFFUSERS_NAME, "README.md")
"""All that is ever unpacked; a model card beside the weights is text to show."""

_WEIGHTS = (WEIGHTS_NAME, DIFFUSERS_NAME)
_TEXTS = (CONFIG_NAME, "README.md")
_NESTED = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar")
_NAME_CHARACTERS = 255
_CHUNK = 1 << 20
_RATIO_FREE_BYTES = 1 << 16
"""Below this a high ratio costs nothing: a short text of spaces is no bomb."""


@dataclass(frozen=True, kw_only=True)
class ArchiveListing:
    """What an archive holds, before anything is unpacked."""

    folder: str
    """The adapter's folder inside the archive; empty for the top."""

    read: tuple[str, ...]
    """Names that `read_archive` unpacks, inside `folder`."""

    ignored: tuple[str, ...]
    """Members that are never opened."""


def list_archive(path: Path, limits: Limits = DEFAULT_LIMITS) -> ArchiveListing:
    """What `read_archive` would unpack, and what it would ignore.

    Raises:
        LoraGenError: As `read_archive`, up to the unpacking itself.
    """
    with _open(path) as file:
        folder, chosen, ignored = _choose(file, path, limits)
    return ArchiveListing(folder=folder, read=tuple(sorted(chosen)), ignored=ignored)


def read_archive(path: Path, into: Path, *, limits: Limits = DEFAULT_LIMITS) -> Path:
    """Unpack the one adapter in a zip file; give the result to `load_adapter`, which checks it.

    Args:
        path: The zip file: an adapter's files at the top or in one folder.
        into: Folder to make, or an empty one; on an error it is left as it was found.
        limits: Bounds on members, sizes and ratio.

    Returns:
        `into`, holding only names of `READ_NAMES`.

    Raises:
        ArchiveError: It is no sound zip file, a name leaves the archive, is listed twice or is a
            link, or there is not exactly one adapter.
        AdapterLimitError: It has too many members or bytes, unpacks to too much, or nests archives.
        UnsafeFileError: Its weights are a pickle, or it is no regular file.
        OutputPathError: `into` exists and is not an empty folder.
        StorageError: The disk refused; nothing is left.
    """
    with _open(path) as file:
        _, chosen, _ = _choose(file, path, limits)
        was_there = _prepare(into)
        try:
            for name, entry in chosen.items():
                _unpack(file, entry, into / name, limits)
        except BaseException as error:
            _clean(into, was_there)
            if isinstance(error, OSError) and not isinstance(error, LoraGenError):
                raise StorageError(
                    f"`{path.name}` could not be unpacked ({error.strerror}). Nothing is left; "
                    "free some space."
                ) from error
            raise
    return into


def _open(path: Path) -> BufferedReader:
    try:
        return open_regular(path)
    except OSError as cause:
        raise ArchiveError(
            f"`{path.name}` cannot be read ({cause.strerror}). Pass a zip file."
        ) from cause


def _choose(
    file: BufferedReader, path: Path, limits: Limits
) -> tuple[str, dict[str, ZipEntry], tuple[str, ...]]:
    """The adapter's folder, name -> member to unpack, and the names of the others."""
    archive = printable(path.name)
    entries = read_directory(file, archive, limits)
    for entry in entries:
        _require_member(entry, archive)
    _require_distinct(entries, archive)
    _require_sizes(entries, archive, limits)
    files = [entry for entry in entries if not entry.name.endswith("/")]
    folder = _adapter_folder(files, archive)
    chosen = {
        PurePosixPath(entry.name).name: entry
        for entry in files
        if _parent(entry) == folder and PurePosixPath(entry.name).name in READ_NAMES
    }
    taken = {entry.name for entry in chosen.values()}
    return folder, chosen, tuple(entry.name for entry in files if entry.name not in taken)


def _require_member(entry: ZipEntry, archive: str) -> None:
    """Check one member's name and kind, whether or not it will be unpacked."""
    shown = f"{printable(entry.name)} in {archive}"
    name = entry.name.removesuffix("/")
    parts = name.split("/")
    if (
        not name
        or len(name) > _NAME_CHARACTERS
        or not name.isprintable()
        or "\\" in name
        or re.match(r"[A-Za-z]:", name)
        or any(part in ("", ".", "..") for part in parts)
    ):
        raise ArchiveError(
            f"{shown} is not a name inside the archive; names are relative, printable, at most "
            f"{_NAME_CHARACTERS} characters, without `..` and `\\`. Zip the folder again."
        )
    kind = stat.S_IFMT(entry.mode)
    wanted = stat.S_IFDIR if entry.name.endswith("/") else stat.S_IFREG
    if kind not in (0, wanted):
        raise ArchiveError(
            f"{shown} is a link or device, and only files and folders are read. Zip the files "
            "themselves."
        )
    if entry.name.endswith("/") and (entry.size or entry.packed):
        raise ArchiveError(f"{shown} is a folder with content. Zip the folder again.")
    if entry.method == STORED and entry.size != entry.packed:
        raise ArchiveError(f"{shown} is stored, but its two sizes differ. Zip the folder again.")


def _require_distinct(entries: list[ZipEntry], archive: str) -> None:
    """Check that no two names are one on some file system, and no file is also a folder."""
    seen: dict[str, str] = {}
    files: set[str] = set()
    for entry in entries:
        key = unicodedata.normalize("NFKC", entry.name.removesuffix("/")).casefold()
        if key in seen:
            raise ArchiveError(
                f"{printable(entry.name)} and {printable(seen[key])} in {archive} are one name, "
                "for some file systems at least. Zip the folder again."
            )
        seen[key] = entry.name
        if not entry.name.endswith("/"):
            files.add(key)
    for key, name in seen.items():
        clash = next((p for p in map(str, PurePosixPath(key).parents) if p in files), None)
        if clash is not None:
            raise ArchiveError(
                f"{printable(seen[clash])} in {archive} is both a file and the folder of "
                f"{printable(name)}. Zip the folder again."
            )


def _require_sizes(entries: list[ZipEntry], archive: str, limits: Limits) -> None:
    """Check the sizes that are claimed, so that most bombs are refused before any work."""
    total = sum(entry.size for entry in entries)
    if total > limits.archive_bytes:
        raise AdapterLimitError(
            f"{archive} unpacks to {total} bytes, and at most {limits.archive_bytes} are unpacked."
        )
    for entry in entries:
        if entry.size > _allowed_bytes(entry, limits):
            raise _bomb(entry, limits)
        if entry.name.lower().endswith(_NESTED):
            raise AdapterLimitError(
                f"{printable(entry.name)} in {archive} is an archive inside the archive, and one "
                "level is read. Unpack it first."
            )


def _adapter_folder(files: list[ZipEntry], archive: str) -> str:
    """The one folder that holds an adapter's files.

    Raises:
        ArchiveError: None does, or several do.
        UnsafeFileError: There are only pickles.
    """
    names = (*_WEIGHTS, CONFIG_NAME)
    found = sorted({_parent(entry) for entry in files if PurePosixPath(entry.name).name in names})
    if len(found) > 1:
        listed = ", ".join(printable(folder or ".") for folder in found[:4])
        raise ArchiveError(
            f"{archive} holds {len(found)} adapters ({listed}). Zip the one you mean alone."
        )
    if not any(PurePosixPath(entry.name).name in _WEIGHTS for entry in files):
        pickle = next((e.name for e in files if e.name.lower().endswith(PICKLE_SUFFIXES)), None)
        if pickle is not None:
            raise UnsafeFileError(
                f"{archive} has only {printable(pickle)}, which may be a pickle and is never "
                "opened. Convert it to safetensors."
            )
        raise ArchiveError(
            f"{archive} has no `{WEIGHTS_NAME}` and no `{DIFFUSERS_NAME}`. Zip an adapter folder."
        )
    return found[0]


def _parent(entry: ZipEntry) -> str:
    parent = str(PurePosixPath(entry.name).parent)
    return "" if parent == "." else parent


def _prepare(into: Path) -> bool:
    """Make the folder; returns whether it was there."""
    try:
        into.mkdir(parents=True)
    except FileExistsError as cause:
        if into.is_symlink() or not into.is_dir() or any(into.iterdir()):
            raise OutputPathError(
                f"`{into}` exists and is not an empty folder. Choose another."
            ) from cause
        return True
    except OSError as cause:
        raise StorageError(f"`{into}` could not be made ({cause.strerror}).") from cause
    return False


def _clean(into: Path, was_there: bool) -> None:
    if not was_there:
        shutil.rmtree(into, ignore_errors=True)
        return
    for name in READ_NAMES:
        (into / name).unlink(missing_ok=True)


def _unpack(file: BufferedReader, entry: ZipEntry, target: Path, limits: Limits) -> None:
    """Write one member, counting its bytes; what the directory claims is not trusted.

    Raises:
        ArchiveError: The data is damaged, or not what the directory claims.
        AdapterLimitError: It unpacks to more than `limits` allow.
    """
    allowed = limits.json_bytes if target.name in _TEXTS else limits.file_bytes
    shown = printable(entry.name)
    if entry.size > allowed:
        raise AdapterLimitError(f"{shown} has {entry.size} bytes, and at most {allowed} are read.")
    size = crc = 0
    with target.open("xb") as output:
        for chunk in _chunks(file, entry):
            size += len(chunk)
            if size > entry.size:
                raise AdapterLimitError(
                    f"{shown} unpacks to more than the {entry.size} bytes that it claims. It is "
                    "damaged or a bomb; zip the folder again."
                )
            crc = zlib.crc32(chunk, crc)
            output.write(chunk)
    if size != entry.size or crc != entry.crc:
        raise ArchiveError(f"{shown} is damaged: its checksum differs. Download or zip it again.")


def _chunks(file: BufferedReader, entry: ZipEntry) -> Iterator[bytes]:
    """The member's bytes, at most a chunk at a time however well they are packed."""
    shown = printable(entry.name)
    file.seek(entry.begin)
    remaining = entry.packed
    inflate = None if entry.method == STORED else zlib.decompressobj(-zlib.MAX_WBITS)
    while remaining:
        data = file.read(min(_CHUNK, remaining))
        if not data:
            raise ArchiveError(f"{shown} is cut short. Download or zip it again.")
        remaining -= len(data)
        if inflate is None:
            yield data
            continue
        while data:
            try:
                chunk = inflate.decompress(data, _CHUNK)
            except zlib.error as cause:
                raise ArchiveError(f"{shown} is damaged ({cause}). Zip it again.") from cause
            if inflate.eof and (inflate.unused_data or remaining):
                raise ArchiveError(f"{shown} has bytes behind its data. Zip it again.")
            data = inflate.unconsumed_tail
            if chunk:
                yield chunk
    while inflate is not None and not inflate.eof:
        chunk = inflate.decompress(b"", _CHUNK)
        if not chunk:
            raise ArchiveError(f"{shown} is cut short. Download or zip it again.")
        yield chunk


def _allowed_bytes(entry: ZipEntry, limits: Limits) -> int:
    return max(_RATIO_FREE_BYTES, entry.packed * limits.archive_ratio)


def _bomb(entry: ZipEntry, limits: Limits) -> AdapterLimitError:
    return AdapterLimitError(
        f"{printable(entry.name)} claims {entry.size} bytes from {entry.packed}, and a packed byte "
        f"may become at most {limits.archive_ratio}. It looks like a bomb; zip it less tightly."
    )
