"""Durable writes: a file or a folder is the old one or the new one, never half.

A file is written beside its final name, synced, renamed, and its folder synced. A folder is filled
under a temporary name, its `manifest.json` (name, size and sha256 of every file) is written last,
and one rename publishes it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lora_gen.durable_folders import (
    ASIDE_PREFIX,
    TEMP_PREFIX,
    discard_folder,
    make_folder,
    move_into_place,
    restore_aside,
    sync_folder,
    temp_beside,
)
from lora_gen.errors import AdapterFormatError, LoraGenError, OutputPathError, StorageError
from lora_gen.safetensors_header import (
    SafetensorsHeader,
    TensorInfo,
    read_safetensors_header,
    read_tensors,
    serialize_tensors,
)
from lora_gen.strict_json import DEFAULT_LIMITS, Limits, parse_json, read_json

__all__ = [
    "DEFAULT_LIMITS",
    "MANIFEST_NAME",
    "TEMP_PREFIX",
    "Limits",
    "SafetensorsHeader",
    "TensorInfo",
    "atomic_write_bytes",
    "atomic_write_json",
    "atomic_write_text",
    "discard_folder",
    "make_folder",
    "parse_json",
    "publish_folder",
    "read_json",
    "read_safetensors_header",
    "read_tensors",
    "serialize_tensors",
    "sha256_file",
    "sweep_temp",
    "sync_folder",
    "verify_manifest",
]

MANIFEST_NAME = "manifest.json"
_MANIFEST_SCHEMA = 1
_MANIFEST_KEYS = frozenset({"schema", "files", "tools", "parents", "digest"})
_OURS = (MANIFEST_NAME, "adapter_config.json")
_TOOLS = ("lora_gen", "torch", "safetensors", "peft", "transformers", "diffusers")


def atomic_write_bytes(path: Path, data: bytes) -> None:
    """Write a file durably: after return it is on disk, on error the old one is untouched.

    Raises:
        StorageError: The disk refused; nothing of the attempt is left.
    """
    temp = temp_beside(path)
    try:
        _write_synced(temp, data)
        os.replace(temp, path)
        sync_folder(path.parent)
    except BaseException as error:
        temp.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _storage_error(path, error) from error
        raise


def atomic_write_text(path: Path, text: str) -> None:
    """Write UTF-8 text durably, as `atomic_write_bytes`."""
    atomic_write_bytes(path, text.encode("utf-8"))


def atomic_write_json(path: Path, value: Any) -> None:
    """Write indented JSON with sorted keys, as `atomic_write_bytes`; NaN is a `ValueError`."""
    atomic_write_bytes(path, _json_bytes(value))


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def publish_folder(
    final: Path,
    overwrite: bool = False,
    *,
    parents: Sequence[str] = (),
    schema: int = _MANIFEST_SCHEMA,
) -> Iterator[Path]:
    """A temporary folder to fill; leaving the block without error publishes it as `final`.

    Args:
        final: Name to publish; its parent folder is created when missing.
        overwrite: Swap an existing folder of ours for the new one, which is durable before the old
            one goes.
        parents: Ids that the manifest records as what this folder was made from.
        schema: Number of the manifest's schema.

    Yields:
        The temporary folder, in the same parent.

    Raises:
        OutputPathError: The output exists and `overwrite` is off, or it is not a folder that we
            wrote.
        StorageError: The disk refused; the previous state is untouched.
    """
    temp = temp_beside(final)
    try:
        restore_aside(final)
        _require_replaceable(final, overwrite)
        make_folder(final.parent)
        temp.mkdir()
        yield temp
        _write_manifest(temp, parents, schema)
        _require_replaceable(final, overwrite)
    except BaseException as error:
        shutil.rmtree(temp, ignore_errors=True)
        if isinstance(error, OSError) and not isinstance(error, LoraGenError):
            raise _storage_error(final, error) from error
        raise
    try:
        move_into_place(temp, final)
    except OSError as error:
        raise _storage_error(final, error) from error


def verify_manifest(
    folder: Path, *, error: type[LoraGenError] = AdapterFormatError
) -> dict[str, Any]:
    """The folder's manifest, after every listed file was found with its size and sha256.

    Args:
        folder: A folder that `publish_folder` published.
        error: Error class to raise, the caller's own.

    Raises:
        LoraGenError: (as `error`) No manifest, a listed file missing or changed, or a file that is
            not listed.
    """
    manifest = read_json(folder / MANIFEST_NAME, error=error)
    # Manifests had no digest at first, so one without it is whole if it has nothing unknown.
    digest = manifest.get("digest", _digest(manifest))
    if digest != _digest(manifest) or not _MANIFEST_KEYS.issuperset(manifest):
        raise error(
            f"`{MANIFEST_NAME}` in `{folder}` differs from its digest: it is damaged or was edited."
        )
    listed = manifest.get("files")
    if not isinstance(listed, dict) or not all(
        isinstance(entry, dict) for entry in listed.values()
    ):
        raise error(f"`{MANIFEST_NAME}` of `{folder}` lists no files. Write the folder again.")
    present = {path.relative_to(folder).as_posix() for path in _files_of(folder)} - {MANIFEST_NAME}
    if present != set(listed):
        difference = sorted(present ^ set(listed))[0]
        state = "is not in the manifest" if difference in present else "is missing"
        raise error(f"`{difference}` {state} in `{folder}`. Restore the folder or write it again.")
    for name, entry in listed.items():
        path = folder / name
        if path.stat().st_size != entry.get("size") or sha256_file(path) != entry.get("sha256"):
            raise error(
                f"`{name}` in `{folder}` differs from its manifest: it is damaged or was edited."
            )
    return manifest


def sweep_temp(folder: Path) -> list[str]:
    """Remove what a killed writer left in `folder`; call it only while holding the folder's lock.

    An old folder that a swap had moved aside is put back under its name first.

    Returns:
        Names that were removed.
    """
    for path in folder.glob(f"{ASIDE_PREFIX}*"):
        restore_aside(path.with_name(path.name.removeprefix(ASIDE_PREFIX)))
    removed = []
    for path in sorted(folder.glob(f"{TEMP_PREFIX}*")):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
        removed.append(path.name)
    return removed


def _json_bytes(value: Any) -> bytes:
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    return text.encode("utf-8") + b"\n"


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _storage_error(path: Path, error: OSError) -> StorageError:
    reason = error.strerror or str(error)
    return StorageError(
        f"`{path}` could not be written ({reason}). Nothing was changed; free space or choose "
        "another folder."
    )


def _files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())


@cache
def _tool_versions() -> Mapping[str, str]:
    found = {}
    for name in _TOOLS:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _write_manifest(folder: Path, parents: Sequence[str], schema: int) -> None:
    files = _files_of(folder)
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())
    listed = {
        path.relative_to(folder).as_posix(): {
            "sha256": sha256_file(path),
            "size": path.stat().st_size,
        }
        for path in files
    }
    manifest: dict[str, Any] = {
        "schema": schema,
        "files": listed,
        "tools": dict(_tool_versions()),
        "parents": list(parents),
    }
    manifest["digest"] = _digest(manifest)
    _write_synced(folder / MANIFEST_NAME, _json_bytes(manifest))
    for subfolder in (path for path in folder.rglob("*") if path.is_dir()):
        sync_folder(subfolder)
    sync_folder(folder)


def _digest(manifest: Mapping[str, Any]) -> str:
    """Hash of everything in a manifest but the hash itself."""
    rest = {key: value for key, value in manifest.items() if key != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _require_replaceable(final: Path, overwrite: bool) -> None:
    if not os.path.lexists(final):
        return
    if final.is_symlink():
        raise OutputPathError(
            f"`{final}` is a symbolic link, which is never replaced. Choose another output."
        )
    if not final.is_dir():
        raise OutputPathError(
            f"`{final}` is a file, and the output is a folder. Choose another output."
        )
    if not overwrite:
        raise OutputPathError(
            f"`{final}` exists already. Choose another output, or allow overwriting it."
        )
    if any(final.iterdir()) and not any((final / name).is_file() for name in _OURS):
        raise OutputPathError(
            f"`{final}` has no `{MANIFEST_NAME}` or `adapter_config.json`, so it is not an adapter "
            "of ours to "
            "overwrite. Choose another output."
        )
