"""On what kind of disk a zoo lies: a writer needs one that no other machine writes to."""

from __future__ import annotations

from pathlib import Path

from lora_gen.errors import ZooError

NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "fuse.sshfs"})
"""File systems of other machines. SQLite's write-ahead log shares memory, which they do not."""
_MOUNTS = Path("/proc/self/mounts")


def require_local(folder: Path, mounts: Path = _MOUNTS) -> None:
    """Check that a folder may hold a zoo that is written.

    Args:
        folder: The zoo's folder, or where it will be.
        mounts: The kernel's list of mounts; where there is none, every disk is taken for local.

    Raises:
        ZooError: It lies on a network disk.
    """
    if not mounts.is_file():
        return
    place, depth, found = folder.resolve(), 0, ""
    for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines():
        _, point, kind, *_ = line.split(" ")
        # The kernel writes a space in a path as its octal code.
        where = Path(point.replace("\\040", " "))
        if place.is_relative_to(where) and len(where.parts) >= depth:  # the last one hides others
            depth, found = len(where.parts), kind
    if found in NETWORK:
        raise ZooError(
            f"`{folder}` is on a network disk ({found}), where another machine could write too. "
            "Keep zoos that are written on a local disk; a copy can be read anywhere."
        )
