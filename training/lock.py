"""One run an output folder: a kernel lock that dies with its process."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lora_gen.errors import LockedError, StorageError
from lora_gen.files import make_folder


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the folder until the block ends.

    Args:
        folder: Created when missing.

    Raises:
        LockedError: Another process holds it; the message names the process.
        StorageError: It cannot be made or opened.
    """
    try:
        make_folder(folder)
        file = (folder / ".lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise StorageError(
            f"`{folder}` cannot be written ({error.strerror}). Name another `output_dir`."
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise LockedError(
                f"`{folder}` is in use by process {holder}. "
                "Wait for it, or name another `output_dir`."
            ) from error
        with suppress(OSError):  # the lock holds without the name in it, which is for people
            os.ftruncate(file.fileno(), 0)
            os.write(file.fileno(), str(os.getpid()).encode())
        yield
