"""F05 and F09 while an adapter is read or kept: a quota is reached, memory ends."""

from __future__ import annotations

import errno
import json
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lora_gen.adapter.io import load_adapter
from lora_gen.errors import StorageError
from tests.corpus.build import CONFIG, MODULES, PREFIX, WEIGHTS, config
from tests.corpus.case import ACT, OK, add
from tests.corpus.guard import address_space
from tests.crash.faults import refuse_each
from tests.crash.operations import OPERATIONS, begin

SPARE = 24_000_000
"""Bytes of address space that are left when memory ends; the large adapter needs thrice that."""


@contextmanager
def at_most(kind: int, limit: int) -> Iterator[None]:
    """The kernel's own limit on this process, until the block ends."""
    soft, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (soft, hard))


def quota(name: str, limit: int) -> Callable[[Path], object]:
    """An operation where no file may grow beyond a size; afterwards it works in this process."""

    def act(place: Path) -> None:
        operation, folder = OPERATIONS[name], begin(name, place / "start")
        try:
            with at_most(resource.RLIMIT_FSIZE, limit):
                operation.run(folder, lambda label: None)
        except StorageError:
            assert operation.judge(folder, ()) == operation.outcomes[0]
            operation.run(folder, lambda label: None)
            assert operation.judge(folder, ()) == operation.outcomes[-1]
            raise

    return act


def quota_at_a_step(name: str) -> Callable[[Path], object]:
    """The disk says `quota exceeded` at every few steps in turn."""

    def act(place: Path) -> None:
        assert refuse_each(name, place, errno.EDQUOT, every=8) > 0

    return act


def large_adapter(folder: Path, width: int = 2_000_000) -> Path:
    """An adapter of `16 * width` bytes that takes no room on the disk: a file of holes."""
    folder.mkdir()
    (folder / CONFIG).write_text(json.dumps(config(target_modules=["q_proj"])))
    first, last = 4 * 2 * width, 4 * 2 * width * 2
    names = [f"{PREFIX}{MODULES[0]}.lora_{side}.weight" for side in "AB"]
    entries = {
        names[0]: {"dtype": "F32", "shape": [2, width], "data_offsets": [0, first]},
        names[1]: {"dtype": "F32", "shape": [width, 2], "data_offsets": [first, last]},
    }
    text = json.dumps(entries).encode()
    with (folder / WEIGHTS).open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + last)
    return folder


def memory_ends_in_load(place: Path) -> None:
    folder = large_adapter(place / "large", width=5_000_000)
    with at_most(resource.RLIMIT_AS, address_space() + SPARE):
        load_adapter(folder)


for name in ("save_adapter_over_an_old_one", "zoo_add", "checkpoint"):
    add("F05", f"{name}-file-size", lambda f, n=name: quota(n, 600), "SPACE", entrances=ACT)
for name in ("save_adapter", "checkpoint"):
    add("F05", f"{name}-any-step", lambda f, n=name: quota_at_a_step(n), OK, entrances=ACT)
add("F09", "load", lambda folder: memory_ends_in_load, "BUSY", "more memory", entrances=ACT)
