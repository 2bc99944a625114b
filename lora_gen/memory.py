"""Memory that runs out as an error of ours, whoever asked for it: Python, PyTorch or the kernel."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from lora_gen.errors import MemoryLimitError

_SIGNS = ("can't allocate memory", "not enough memory", "out of memory", "bad_alloc")
"""What PyTorch's allocators and C++ say; their errors are plain `RuntimeError`s."""


@contextmanager
def memory_for(work: str) -> Iterator[None]:
    """A block, or a function, whose lack of memory is a `MemoryLimitError`.

    Args:
        work: What the memory was for, as the sentence's subject.

    Raises:
        MemoryLimitError: The block ran out of memory; whatever it made is let go.
    """
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if isinstance(error, MemoryLimitError) or not _is_memory(error):
            raise
        raise MemoryLimitError(
            f"`{work}` needs more memory than this process may have. Ask for less at once, or "
            "raise the limit; nothing was changed."
        ) from error


def _is_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return any(sign in str(error).lower() for sign in _SIGNS)
