"""Folders that appear, change places and go: a kill or a power cut leaves no half of them."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import uuid
from contextlib import suppress
from pathlib import Path

TEMP_PREFIX = ".tmp-"
ASIDE_PREFIX = ".lora-gen-aside-"
_RENAME_EXCHANGE = 2
_AT_FDCWD = -100


def temp_beside(path: Path) -> Path:
    """An unused temporary name in the folder of `path`."""
    return path.parent / f"{TEMP_PREFIX}{uuid.uuid4().hex}"


def sync_folder(folder: Path) -> None:
    """Make the names inside a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder and its missing parents, each durable before the next; one that exists is kept.

    Raises:
        OSError: The disk refused, or a file is in the way; what was made is taken back.
    """
    missing, above = list[Path](), folder
    while not above.is_dir():
        missing.append(above)
        above = above.parent
    made: list[Path] = []
    try:
        for path in reversed(missing):
            path.mkdir(exist_ok=True)
            made.append(path)
            sync_folder(path.parent)
    except OSError:
        for path in reversed(made):
            with suppress(OSError):
                path.rmdir()
        raise


def discard_folder(folder: Path) -> bool:
    """Delete a folder in one step for every observer; True when nothing of it is left.

    What the disk refuses to delete is no error: it waits under a temporary name for `sweep_temp`.
    """
    if not os.path.lexists(folder):
        return True
    aside = temp_beside(folder)
    with suppress(OSError):
        os.rename(folder, aside)
        sync_folder(folder.parent)  # else a power cut could leave the old name on half a folder
        shutil.rmtree(aside)
        return True
    return False


def move_into_place(temp: Path, final: Path) -> None:
    """Publish the durable folder `temp` as `final`; an old one goes once the new one is durable.

    Raises:
        OSError: The disk refused. The previous state is back, unless it refused that too: then
            both folders are left, so that nothing is lost.
    """
    if not os.path.lexists(final):
        _place(temp, final)
    elif _exchanged(temp, final):
        shutil.rmtree(temp, ignore_errors=True)
    else:
        aside = aside_of(final)
        os.rename(final, aside)
        try:
            sync_folder(final.parent)  # else a power cut could keep neither name
            _place(temp, final)
        except OSError:
            os.rename(aside, final)
            shutil.rmtree(temp, ignore_errors=True)
            raise
        shutil.rmtree(aside, ignore_errors=True)


def restore_aside(final: Path) -> None:
    """Finish or undo a swap of `final` that a kill or a power cut interrupted."""
    aside = aside_of(final)
    if not aside.is_dir():
        return
    if os.path.lexists(final):
        sync_folder(final.parent)
        shutil.rmtree(aside)
    else:
        os.rename(aside, final)
        sync_folder(final.parent)


def aside_of(final: Path) -> Path:
    """Where the old `final` waits during a swap on systems that cannot exchange two names."""
    return final.with_name(f"{ASIDE_PREFIX}{final.name}")


def _place(temp: Path, final: Path) -> None:
    """Rename to an unused name, durably."""
    try:
        os.rename(temp, final)
    except OSError:
        shutil.rmtree(temp, ignore_errors=True)
        raise
    try:
        sync_folder(final.parent)
    except OSError:
        os.rename(final, temp)
        shutil.rmtree(temp, ignore_errors=True)
        raise


def _exchanged(temp: Path, final: Path) -> bool:
    """Swap the two, durably; False where the system cannot swap names."""
    try:
        if not _exchange(temp, final):
            return False
    except OSError:
        shutil.rmtree(temp, ignore_errors=True)
        raise
    try:
        sync_folder(final.parent)
    except OSError:
        _exchange(temp, final)
        shutil.rmtree(temp, ignore_errors=True)
        raise
    return True


def _exchange(left: Path, right: Path) -> bool:
    """Swap two names in one step; False where the system cannot."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    arguments = (_AT_FDCWD, os.fsencode(left), _AT_FDCWD, os.fsencode(right), _RENAME_EXCHANGE)
    if rename(*arguments) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), str(right))
