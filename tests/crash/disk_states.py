"""What a legal file system may hold after the power went: from a recording to folders.

A file keeps what it had when it was last synced, or anything it was given since, or a part of it,
or zeros. A name keeps what it had when its folder was last synced; of the later changes, any
that the recording's order allows may have reached the disk.
"""

import random
from dataclasses import dataclass, field
from pathlib import Path

BLOCK = 4096
MODES = ("synced", "written", "cut", "zeros")
NAMESPACE = ("link", "unlink", "rename", "exchange")


@dataclass
class State:
    """One state of the disk, and what had been acknowledged when the power went."""

    tree: dict
    content: dict
    root: int
    acknowledged: tuple = ()
    note: str = ""
    files: dict = field(default_factory=dict)

    def __post_init__(self):
        self._collect(self.root, "", frozenset())

    def _collect(self, folder, prefix, above):
        for name, inode in sorted(self.tree.get(folder, {}).items()):
            if inode in self.tree and inode not in above:
                self.files[f"{prefix}{name}/"] = None
                self._collect(inode, f"{prefix}{name}/", above | {folder})
            elif inode not in self.tree:
                self.files[f"{prefix}{name}"] = self.content.get(inode, b"")

    def key(self):
        return self.acknowledged, tuple(self.files.items())

    def write(self, folder):
        """Make the state a folder."""
        folder.mkdir(parents=True)
        for name, data in self.files.items():
            path = folder / name
            if data is None:
                path.mkdir()
            else:
                path.write_bytes(data)
        return folder


def crash_states(recorder, limit):
    """At most `limit` different states, over every moment of the recording.

    The choice among too many is seeded, and always has the first and the last.
    """
    found = {}
    operations = recorder.operations
    for moment in range(len(operations) + 1):
        if moment and operations[moment - 1][0] in ("fsync", "sqlite"):
            continue  # then less is possible than one step earlier
        for state in _states_at(recorder, moment):
            found.setdefault(state.key(), state)
    states = list(found.values())
    if len(states) <= limit:
        return states
    chosen = random.Random(0).sample(range(1, len(states) - 1), limit - 2)
    return [states[i] for i in (0, *sorted(chosen), len(states) - 1)]


def _states_at(recorder, moment):
    operations = recorder.operations[:moment]
    pending = _pending(operations)
    acknowledged = tuple(operation[1] for operation in operations if operation[0] == "ack")
    root = recorder.root.stat().st_ino
    contents = {mode: _content(recorder.start[1], operations, mode) for mode in MODES}
    for kept in _choices(pending):
        tree = _replay(recorder.start[0], operations, set(pending) - kept)
        for mode, content in contents.items():
            note = f"moment {moment}, {mode}, {len(kept)} of {len(pending)} names"
            yield State(tree, content, root, acknowledged, note)


def _pending(operations):
    """Numbers of the changes of names that nothing has made durable."""
    pending = []
    for number, operation in enumerate(operations):
        if operation[0] in NAMESPACE:
            pending.append((number, _folders(operation)))
        elif operation[0] == "fsync":
            pending = [(n, left - {operation[1]}) for n, left in pending]
            pending = [(n, left) for n, left in pending if left]
        elif operation[0] == "sqlite":
            pending = [(n, left) for n, left in pending if not _is_sqlite(operations[n])]
    return [number for number, _ in pending]


def _folders(operation):
    """Whose sync makes a change of names durable; for a rename, the folder that it moves into."""
    return {operation[3] if operation[0] == "rename" else operation[1]}


def _is_sqlite(operation):
    return operation[0] in ("link", "unlink") and operation[2].startswith("catalog.sqlite")


def _choices(pending):
    """Sets of pending changes that reached the disk: prefixes, all but one, only one."""
    whole = frozenset(pending)
    sets = [frozenset(pending[:end]) for end in range(len(pending) + 1)]
    sets += [whole - {number} for number in pending]
    sets += [frozenset({number}) for number in pending]
    return set(sets)


def _replay(start, operations, lost):
    tree = {folder: dict(names) for folder, names in start.items()}
    for number, operation in enumerate(operations):
        kind = operation[0]
        if kind == "link" and operation[4]:
            tree.setdefault(operation[3], {})  # the folder itself; its name may be lost
        if kind not in NAMESPACE or number in lost:
            continue
        names = tree.setdefault(operation[1], {})
        if kind == "link":
            names[operation[2]] = operation[3]
        elif kind == "unlink":
            names.pop(operation[2], None)
        else:
            _move(tree, operation)
    return tree


def _move(tree, operation):
    kind, source, old, target, new = operation
    names, others = tree.setdefault(source, {}), tree.setdefault(target, {})
    if old not in names:
        return  # the name it moves never reached the disk
    if kind == "exchange":
        if new in others:
            names[old], others[new] = others[new], names[old]
        return
    others[new] = names.pop(old)


def _content(start, operations, mode):
    """File inode -> bytes, with every unsynced write kept, lost, cut or zeroed."""
    durable, written = dict(start), dict(start)
    for operation in operations:
        if operation[0] in ("data", "synced"):
            written[operation[1]] = operation[2]
        if operation[0] == "synced":
            durable[operation[1]] = operation[2]
        elif operation[0] == "fsync" and operation[1] in written:
            durable[operation[1]] = written[operation[1]]
        elif operation[0] == "sqlite":
            durable.update({i: data for i, data in written.items() if _is_sqlite_data(data)})
    result = {}
    for inode, data in written.items():
        old = durable.get(inode, b"")
        result[inode] = data if data == old else _torn(old, data, mode)
    return result


def _is_sqlite_data(data):
    return data[:15] == b"SQLite format 3" or data[:3] == b"\x37\x7f\x06" or not data


def _torn(old, data, mode):
    if mode == "synced":
        return old
    if mode == "written":
        return data
    keep = len(data) // 2 // BLOCK * BLOCK
    if data.startswith(old):
        keep = max(keep, len(old))  # what was durable stays; only what was appended is torn
        return data[:keep] + (bytes(len(data) - keep) if mode == "zeros" else b"")
    halves = (data, old) if mode == "cut" else (old, data)  # edited in place: only SQLite does
    return halves[0][:keep] + halves[1][keep:]


def folder_of(state, base: Path, number):
    """The state as a numbered folder under `base`."""
    return state.write(base / f"state{number}")
