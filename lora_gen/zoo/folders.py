"""Content-addressed folders, `adapters/<id[:2]>/<id>/`: published whole, never edited."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from lora_gen.errors import LoraGenError, StorageError, ZooError
from lora_gen.files import (
    TEMP_PREFIX,
    discard_folder,
    make_folder,
    sweep_temp,
    verify_manifest,
)

_ID = re.compile(r"[0-9a-f]{40}")


class AdapterFolders:
    """The folders under `root`. Only the holder of the zoo's lock may call what changes them."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path_of(self, entry_id: str) -> Path:
        """Where the folder of `entry_id` is or would be.

        Raises:
            ZooError: It is not an id, so no path is made from it.
        """
        if not _ID.fullmatch(entry_id):
            raise ZooError(f"`{entry_id[:80]}` is not an id. Ids are 40 hex digits.")
        return self.root / entry_id[:2] / entry_id

    def has(self, entry_id: str) -> bool:
        """Whether there is a folder for `entry_id`, whole or not."""
        return self.path_of(entry_id).is_dir()

    def is_whole(self, entry_id: str) -> bool:
        """Whether every file of `entry_id` is there and has the hash of its manifest."""
        try:
            verify_manifest(self.path_of(entry_id), error=ZooError)
        except (LoraGenError, OSError):
            return False
        return True

    def publish(self, entry_id: str, write: Callable[[Path], object]) -> bool:
        """Make the folder of `entry_id` durable with `write`, unless a whole one is there.

        Args:
            entry_id: Content address of what `write` publishes.
            write: Publishes the folder it is given, by `publish_folder`.

        Returns:
            Whether `write` was called.

        Raises:
            StorageError: The disk refused.
        """
        if self.is_whole(entry_id):
            return False
        final = self.path_of(entry_id)
        self.discard(entry_id)
        try:
            make_folder(final.parent)
        except OSError as error:
            raise StorageError(
                f"`{final.parent}` could not be made ({error.strerror}). Nothing was changed; "
                "free some space."
            ) from error
        write(final)
        return True

    def discard(self, entry_id: str) -> bool:
        """Take the folder of `entry_id` away, if there is one; True when nothing of it is left.

        What the disk refuses to delete is no error: the catalog decides what exists, and the next
        start sweeps again.
        """
        return discard_folder(self.path_of(entry_id))

    def sweep(self) -> list[str]:
        """Delete what killed writers left; returns the names."""
        return [name for folder in (self.root, *self._prefixes()) for name in sweep_temp(folder)]

    def names(self) -> Iterator[str]:
        """Every name under the root that is a published folder, or is nothing of ours."""
        prefixes = list(self._prefixes())
        strangers = {path.name for path in self.root.iterdir()} - {path.name for path in prefixes}
        yield from sorted(name for name in strangers if not name.startswith(TEMP_PREFIX))
        for prefix in prefixes:
            names = (path.name for path in prefix.iterdir())
            yield from sorted(
                f"{prefix.name}/{name}" for name in names if not name.startswith(TEMP_PREFIX)
            )

    def unfinished(self) -> list[str]:
        """Names of what a writer is filling or deleting, or was when it was killed."""
        folders = (self.root, *self._prefixes())
        paths = [path for folder in folders for path in folder.glob(f"{TEMP_PREFIX}*")]
        return sorted(path.relative_to(self.root).as_posix() for path in paths)

    def discard_orphan(self, name: str) -> bool:
        """Delete a folder that `names` gave and no entry owns; False for what is not ours."""
        prefix, _, entry_id = name.partition("/")
        if not _ID.fullmatch(entry_id) or prefix != entry_id[:2]:
            return False
        return self.discard(entry_id)

    def _prefixes(self) -> Iterator[Path]:
        for path in sorted(self.root.iterdir()):
            if len(path.name) == 2 and path.is_dir() and not path.is_symlink():
                yield path


def make_zoo_folders(*, adapters: Path, catalog: Path) -> None:
    """The empty zoo's folders, durable.

    Raises:
        ZooError: There are adapters without a catalog, or the disk refused.
    """
    folder = adapters.parent
    if catalog.is_file() and catalog.stat().st_size:
        return
    if adapters.is_dir() and any(adapters.iterdir()):
        raise ZooError(
            f"`{folder}` has adapters, but no `{catalog.name}` with content. Restore it from a "
            "copy, or choose another folder."
        )
    try:
        make_folder(adapters)
    except OSError as error:
        raise StorageError(
            f"`{folder}` could not be made ({error.strerror}). Choose another."
        ) from error
