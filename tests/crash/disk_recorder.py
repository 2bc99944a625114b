"""A shim between our code and the disk: it records every step, and can refuse or cut one.

Python's steps (write, fsync, rename, mkdir, unlink …) are hooked one by one. What native code did
in between (SQLite, safetensors) is found by looking at the folder before and after each step, so
nothing escapes. SQLite is trusted in one thing only: a commit that returned is durable. Its own
syscalls are swept by `syscall_sweep.py`.
"""

import builtins
import errno
import io
import os
import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from safetensors import SafetensorError

from lora_gen import durable_folders

PATH_STEPS = ("mkdir", "rmdir", "unlink", "rename", "replace")
SQL_STEPS = ("COMMIT", "PRAGMA journal_mode", "PRAGMA wal_checkpoint")


@dataclass
class Recorder:
    """What happened to the folder `root`, in order; inodes stand for files and folders."""

    root: Path
    fail_at: int = 0
    """Number of the step to refuse; 0 refuses none."""
    failure: int = errno.ENOSPC
    operations: list = field(default_factory=list)
    steps: list = field(default_factory=list)
    tree: dict = field(default_factory=dict)
    """Folder inode -> name -> inode, as last seen."""
    content: dict = field(default_factory=dict)
    """File inode -> (time and size, bytes), as last seen."""
    held: list = field(default_factory=list)
    """Open descriptors of every file seen, so that no inode number is used twice."""
    opened: dict = field(default_factory=dict)
    """The same for folders, by path."""

    def __post_init__(self):
        self.look()
        self.start = ({k: dict(v) for k, v in self.tree.items()}, self.bytes_now())
        self.operations.clear()

    def bytes_now(self):
        return {inode: data for inode, (_, data) in self.content.items()}

    def acknowledge(self, label):
        """The operation told its caller that it is done."""
        self.look()
        self.operations.append(("ack", label))

    def look(self):
        """Record what changed since the last look, as unsynced links, unlinks and writes."""
        found = self._scan()
        for folder, names in found.items():
            before = self.tree.get(folder, {})
            for name, inode in names.items():
                if before.get(name) != inode:
                    self.operations.append(("link", folder, name, inode, inode in found))
        for folder, names in self.tree.items():
            for name in names:
                if name not in found.get(folder, {}):
                    self.operations.append(("unlink", folder, name))
        self.tree = found

    def _scan(self):
        found = {}
        for path, folders, files in os.walk(self.root):
            inode = os.stat(path).st_ino
            names = found.setdefault(inode, {})
            if inode not in self.tree and path not in self.opened:
                self.opened[path] = os.open(path, os.O_RDONLY)
            for name in (*folders, *files):
                if name.endswith("-shm"):
                    continue  # SQLite rebuilds it
                status = os.stat(os.path.join(path, name))
                names[name] = status.st_ino
                if name in files:
                    self._read(os.path.join(path, name), status)
        return found

    def _read(self, path, status):
        stamp = (status.st_mtime_ns, status.st_size)
        known = self.content.get(status.st_ino)
        if known is None:
            self.held.append(os.open(path, os.O_RDONLY))
        if known is None or known[0] != stamp:
            with io.FileIO(path) as file:
                data = file.readall()
            self.content[status.st_ino] = (stamp, data)
            # Where it has no log yet, SQLite keeps a rollback journal, so that nothing is torn.
            atomic = path.endswith("catalog.sqlite") and not os.path.exists(f"{path}-wal")
            self.operations.append(("synced" if atomic else "data", status.st_ino, data))

    def close(self):
        for descriptor in (*self.held, *self.opened.values()):
            os.close(descriptor)
        self.held.clear()
        self.opened.clear()

    def step(self, name, subject, sqlite=False):
        """Count one step, and refuse it when its number has come."""
        self.look()
        self.steps.append(f"{name} {subject}")
        if len(self.steps) != self.fail_at:
            return
        message = f"{os.strerror(self.failure)} (injected)"
        if sqlite:
            error = sqlite3.OperationalError(message)
            full = self.failure == errno.ENOSPC
            error.sqlite_errorcode = sqlite3.SQLITE_FULL if full else sqlite3.SQLITE_IOERR
            raise error
        if name == "save_file":
            raise SafetensorError(f"Error while serializing: {message}")
        raise OSError(self.failure, message)

    def synced(self, inode):
        self.look()
        self.operations.append(("fsync", inode))

    def holds(self, path):
        try:
            return Path(os.fsdecode(path)).absolute().is_relative_to(self.root)
        except TypeError:
            return False


class RecordedFile:
    """A file opened for writing, whose writes are steps."""

    def __init__(self, file, recorder):
        self._file, self._recorder = file, recorder

    def write(self, data):
        self._recorder.step("write", Path(self._file.name).name)
        return self._file.write(data)

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return self._file.__exit__(*error)


def _open(recorder, real, file, mode="r", *arguments, **options):
    opened = real(file, mode, *arguments, **options)
    is_ours = isinstance(file, str | bytes | os.PathLike) and recorder.holds(file)
    return RecordedFile(opened, recorder) if is_ours and set(mode) & set("wxa+") else opened


def _path_step(recorder, real, path, *arguments, **options):
    folder = options.get("dir_fd")
    whole = path if folder is None else f"{os.readlink(f'/proc/self/fd/{folder}')}/{path}"
    exists = real.__name__ == "mkdir" and os.path.isdir(whole)
    if not recorder.holds(whole) or exists:  # nothing would change, so there is nothing to refuse
        return real(path, *arguments, **options)
    recorder.step(real.__name__, Path(os.fsdecode(whole)).name)
    if real.__name__ not in ("rename", "replace"):
        result = real(path, *arguments, **options)
        recorder.look()
        return result
    places = _place(path), _place(arguments[0])
    real(path, *arguments, **options)
    recorder.operations.append(("rename", *places[0], *places[1]))
    recorder.tree = recorder._scan()
    return None


def _place(path):
    path = Path(path)
    return os.stat(path.parent).st_ino, path.name


def _fsync(recorder, real, descriptor):
    path = os.readlink(f"/proc/self/fd/{descriptor}")
    if not recorder.holds(path):
        return real(descriptor)
    kind = "fsync folder" if os.path.isdir(path) else "fsync"
    recorder.step(kind, Path(path).name)
    recorder.synced(os.fstat(descriptor).st_ino)
    return None  # the model decides what is durable; a real sync would only cost time


def _exchange(recorder, real, left, right):
    if not recorder.holds(left):
        return real(left, right)
    recorder.step("exchange", right.name)
    places = _place(left), _place(right)
    done = real(left, right)
    if done:
        recorder.operations.append(("exchange", *places[0], *places[1]))
        recorder.tree = recorder._scan()
    return done


def _connection(recorder):
    class Connection(sqlite3.Connection):
        """A commit that returned is durable, with the names of the files it needs."""

        def execute(self, statement, *values):
            durable = statement.startswith(SQL_STEPS)
            if statement == "COMMIT":
                recorder.step("commit", "catalog", sqlite=True)
            cursor = super().execute(statement, *values)
            if durable and recorder.root.is_dir():
                self._durable()
            return cursor

        def executescript(self, script):
            recorder.step("commit", "new catalog", sqlite=True)
            cursor = super().executescript(script)
            self._durable()
            return cursor

        def close(self):
            super().close()
            self._durable()

        def _durable(self):
            start = len(recorder.operations)
            recorder.look()
            done = recorder.operations[start:]
            # A log is emptied or deleted only once the database has all of it.
            late = [o for o in done if o[0] == "unlink" or (o[0] == "data" and not o[2])]
            recorder.operations[start:] = [*(o for o in done if o not in late), ("sqlite",), *late]

    return Connection


@contextmanager
def recording(root, *, fail_at=0, failure=errno.ENOSPC, exchange=True):
    """Everything that happens to `root` inside the block, recorded."""
    from lora_gen.zoo import catalog
    from training import checkpoint

    recorder = Recorder(Path(root).absolute(), fail_at=fail_at, failure=failure)
    swap = durable_folders._exchange if exchange else lambda left, right: False
    connect = partial(sqlite3.connect, factory=_connection(recorder))
    save_file = checkpoint.save_file

    def save(tensors, path):
        recorder.step("save_file", Path(path).name)
        save_file(tensors, path)

    try:
        with pytest.MonkeyPatch.context() as patch:
            for name in PATH_STEPS:
                patch.setattr(os, name, _named(_path_step, recorder, getattr(os, name)))
            patch.setattr(os, "fsync", _named(_fsync, recorder, os.fsync))
            for module in (io, builtins):
                patch.setattr(module, "open", partial(_open, recorder, io.open))
            if exchange:
                swap = partial(_exchange, recorder, swap)
            patch.setattr(durable_folders, "_exchange", swap)
            patch.setattr(catalog.sqlite3, "connect", connect)
            patch.setattr(checkpoint, "save_file", save)
            yield recorder
    finally:
        recorder.close()


def _named(function, recorder, real):
    hooked = partial(function, recorder, real)
    hooked.__name__ = real.__name__
    return hooked
