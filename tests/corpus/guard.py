"""What a process does while it handles a case: opened files, network, code; and its memory.

Python's audit events cannot be taken back, so the guard listens for the life of the process and
keeps only what happens inside `watching`.
"""

from __future__ import annotations

import os
import socket
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_PROCESS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.startfile")
_NETWORK = (
    "socket.connect",
    "socket.bind",
    "socket.sendto",
    "socket.getaddrinfo",
    "urllib.Request",
)
_EVALUATORS = ("typing.py", "dataclasses.py", "inspect.py", "collections/__init__.py")
_TREES = {sys.prefix, sys.base_prefix, *sysconfig.get_paths().values(), str(ROOT)}
_READABLE = (*sorted(_TREES), "/proc/", "/sys/", "/dev/", "/usr/", "/etc/localtime", "/etc/ssl")


class Guard:
    """Violations of O5 and O6 inside one sandbox."""

    def __init__(self, sandbox: Path) -> None:
        self.sandbox = str(sandbox.resolve())
        self.violations: list[str] | None = None
        sys.addaudithook(self._hear)

    @contextmanager
    def watching(self) -> Iterator[list[str]]:
        """A list that fills with what must not happen."""
        self.violations = found = []
        try:
            yield found
        finally:
            self.violations = None

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        found = self.violations
        if found is None:
            return
        if event in _NETWORK or (event == "socket.__new__" and arguments[1] != socket.AF_UNIX):
            found.append(f"network: {event} {arguments!r:.200}")
        elif event in _PROCESS:
            found.append(f"process: {event} {arguments!r:.200}")
        elif event == "pickle.find_class":
            found.append(f"pickle: {arguments!r:.200}")
        elif event == "exec":
            self._judge_code(arguments[0], found)
        elif event == "open":
            self._judge_open(arguments, found)

    def _judge_code(self, code: Any, found: list[str]) -> None:
        name = getattr(code, "co_filename", "?")
        if name.startswith(self.sandbox) or (
            not name.startswith(("<frozen", *_READABLE)) and not _from_library()
        ):
            found.append(f"code: {name} was run")

    def _judge_open(self, arguments: tuple[Any, ...], found: list[str]) -> None:
        path, mode, flags = arguments
        if not isinstance(path, str | bytes | os.PathLike):
            return
        full = os.path.abspath(os.fsdecode(path))
        inside = full == self.sandbox or full.startswith(self.sandbox + os.sep)
        writes = any(c in (mode or "") for c in "wax+") or (
            mode is None and flags & (os.O_WRONLY | os.O_RDWR)
        )
        if writes and not inside and full != os.devnull:
            found.append(f"open: {full} to write")
        elif not inside and not full.startswith(_READABLE):
            found.append(f"open: {full} to read")


def _from_library() -> bool:
    """Whether a module is being imported, or annotations and dataclasses are being evaluated."""
    frame = sys._getframe(3)
    if frame.f_code.co_filename.endswith(_EVALUATORS):
        return True
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def reset_peak() -> int:
    """Forget the process's largest size; returns the size now, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def peak() -> int:
    """The process's largest size since `reset_peak`, in bytes."""
    return _status("VmHWM")


def address_space() -> int:
    """Bytes of address space in use."""
    return _status("VmSize")


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(name)
