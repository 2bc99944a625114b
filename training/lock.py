"""One run an output folder: a kernel lock that dies with its process."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lora_gen.errors import LockedError


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the folder until the block ends.

    Args:
        folder: Created when missing.

    Raises:
        LockedError: Another process holds it; the message names the process.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise LockedError(
                f"`{folder}` is in use by process {holder}. "
                "Wait for it, or name another `output_dir`."
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
