"""Freed memory goes back to the system."""

import os
import platform
import threading

import psutil
import pytest

from app.memory import release, release_until


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps arenas")
def test_release_gives_back_what_was_freed() -> None:
    process = psutil.Process(os.getpid())
    blocks = [bytearray(100_000) for _ in range(1_000)]  # below the size that is mapped alone
    kept = blocks[::50]
    full = process.memory_info().rss
    del blocks
    assert release()
    assert full - process.memory_info().rss > 50_000_000
    assert len(kept) == 20


def test_thread_ends_when_it_is_told_to() -> None:
    stopped = threading.Event()
    thread = release_until(stopped, every=0.01)
    stopped.set()
    thread.join(5)
    assert not thread.is_alive()
