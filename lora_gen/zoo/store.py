"""The zoo: immutable content-addressed adapter folders, and the catalog that says which exist.

Adding makes the folder durable, then commits its row, then returns; removing commits a tombstone,
then deletes the folder. So after a kill or a power cut every returned entry is there, whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from lora_gen.closing import Closing
from lora_gen.errors import ZooError
from lora_gen.files import sync_folder
from lora_gen.zoo.catalog import Catalog
from lora_gen.zoo.disk import require_local
from lora_gen.zoo.entry import ORIGIN, EntryInfo, ZooEntry
from lora_gen.zoo.folders import AdapterFolders, make_zoo_folders
from lora_gen.zoo.guard import Guard, now
from lora_gen.zoo.lock import WriterLock
from lora_gen.zoo.splits import require_disjoint
from lora_gen.zoo.verify import VerifyReport, verify_zoo

if TYPE_CHECKING:
    from lora_gen.adapter.adapter import Adapter

CATALOG_NAME = "catalog.sqlite"
LOCK_NAME = ".lock"
ADAPTERS_NAME = "adapters"
_BATCH = 64


class Zoo(Closing):
    """A folder of adapters with a catalog. Open it with `Zoo.open`, close it or use `with`."""

    def __init__(self, folder: Path, catalog: Catalog, lock: WriterLock | None) -> None:
        self.folder = folder
        self.repairs: tuple[str, ...] = ()
        """What opening cleaned up after a killed writer, one line each."""
        self.folders = AdapterFolders(folder / ADAPTERS_NAME)
        """Where the weights lie."""
        self.guard = Guard(catalog, self.folders)
        """Quarantine, block-list and forgetting."""
        self._catalog = catalog
        self._lock = lock

    @classmethod
    def open(cls, folder: Path | str, *, create: bool = False, read_only: bool = False) -> Zoo:
        """The zoo at `folder`.

        Args:
            folder: The zoo's folder.
            create: Make an empty zoo where there is none.
            read_only: Take no lock and write nothing; works beside a writer and on read-only disks.

        Raises:
            LockedError: Another process writes to it; the message names it.
            ZooError: It is not a zoo, its catalog is damaged, or it would be written on a network
                disk.
        """
        folder = Path(folder)
        path = folder / CATALOG_NAME
        if read_only:
            return cls(folder, Catalog(path, read_only=True), None)
        require_local(folder)
        if create:
            make_zoo_folders(adapters=folder / ADAPTERS_NAME, catalog=path)
        elif not path.is_file():
            Catalog(
                path
            )  # says that this is no zoo, before a lock file is left in a foreign folder
        lock = WriterLock(folder / LOCK_NAME)
        try:
            catalog = Catalog(path, create=create)
            try:
                zoo = cls(folder, catalog, lock)
                zoo._start()
            except BaseException:
                catalog.close()
                raise
        except BaseException:
            lock.close()
            raise
        return zoo

    def add(
        self, adapter: Adapter, info: EntryInfo, *, exact: bool = True, dtype: str = "float16"
    ) -> ZooEntry:
        """Keep `adapter`; once this returns, it is on disk.

        Adding what is already there, with the same info, returns the existing entry.

        Args:
            adapter: The adapter; it names its base.
            info: What it was trained for.
            exact: Keep its ranks; otherwise pad them as the portable profile does.
            dtype: `float16`, `bfloat16` or `float32`.

        Raises:
            AdapterValueError: A value is not finite, or too large for `dtype`.
            ZooError: The weights are there with other info, the family stands in another split, or
                the zoo is read-only.
            StorageError: The disk refused; nothing was changed.
        """
        return self.add_many([(adapter, info)], exact=exact, dtype=dtype)[0]

    def add_many(
        self,
        items: Iterable[tuple[Adapter, EntryInfo]],
        *,
        exact: bool = True,
        dtype: str = "float16",
    ) -> list[ZooEntry]:
        """Keep many adapters, one commit for 64; a failure loses only its own batch.

        Raises:
            LoraGenError: As in `add`; what earlier batches added stays.
        """
        self._require_writer()
        remaining, added = iter(items), list[ZooEntry]()
        while batch := list(islice(remaining, _BATCH)):
            added += self._add_batch(batch, exact=exact, dtype=dtype)
        return added

    def get(self, entry_id: str) -> ZooEntry:
        """The entry `entry_id`.

        Raises:
            ZooError: The zoo has no such entry.
        """
        entry = self._catalog.get(entry_id)
        if entry is None:
            reason = self.guard.quarantined().get(entry_id)
            if reason is not None:
                raise ZooError(
                    f"`{entry_id}` is in quarantine ({reason}). An operator may release it with "
                    "`lora-gen zoo quarantine --release`."
                )
            raise ZooError(
                f"`{entry_id}` is not in `{self.folder}`. `lora-gen zoo list` shows all."
            )
        return entry

    def find_id(self, prefix: str) -> str:
        """The one id that begins with `prefix`.

        Raises:
            ZooError: None does, or several do.
        """
        found = self._catalog.ids_with_prefix(prefix, limit=2)
        if not prefix or len(found) != 1:
            number = "several ids" if found else "no id"
            raise ZooError(
                f"`{prefix}` begins {number} in `{self.folder}`. `lora-gen zoo list` shows all."
            )
        return found[0]

    def entries(
        self, *, split: str | None = None, base: str | None = None, task: str | None = None
    ) -> list[ZooEntry]:
        """Entries in the order they were added, narrowed by what is given."""
        return self._catalog.find(split=split, base=base, task=task)

    def ids(
        self, *, split: str | None = None, base: str | None = None, task: str | None = None
    ) -> list[str]:
        """Ids of `entries`, without reading the entries."""
        return self._catalog.ids(split=split, base=base, task=task)

    def __len__(self) -> int:
        return len(self._catalog.ids())

    def load(self, entry_id: str) -> Adapter:
        """The adapter of `entry_id`, checked against its content address.

        Raises:
            ZooError: The zoo has no such entry, or its files are missing or damaged.
        """
        from lora_gen.zoo import content

        entry = self.get(entry_id)
        if not self.folders.has(entry_id):
            self.get(entry_id)  # removed while we read: then the message says that
            folder = self.folders.path_of(entry_id)
            raise ZooError(f"`{entry_id}` has lost its folder `{folder}`. Add the adapter again.")
        try:
            adapter = content.read(self.folders.path_of(entry_id), entry_id)
        except ZooError:
            self.get(entry_id)
            raise
        if adapter.base != entry.base:
            raise ZooError(
                f"`{entry_id}` is for `{entry.base}` in the catalog, but its folder says "
                f"`{adapter.base}`. Remove it, or add it again."
            )
        return adapter

    def remove(self, entry_id: str) -> ZooEntry:
        """Take `entry_id` out: its removal is committed, then its folder is deleted.

        Raises:
            ZooError: The zoo has no such entry, or is read-only.
        """
        self._require_writer()
        entry = self.get(entry_id)
        self._catalog.mark_removed(entry_id, now())
        self.folders.discard(entry_id)
        return entry

    def verify(self) -> VerifyReport:
        """What hashing every file of every entry, and checking every row, finds."""
        return verify_zoo(self.folders, self._catalog, self.guard)

    def generation(self) -> int:
        """Number of committed changes; what was derived at another number is stale."""
        return self._catalog.generation()

    def checkpoint(self) -> None:
        """Make the catalog one complete file, ready to be copied, shipped or opened read-only.

        Raises:
            LockedError: A reader is in the way.
            ZooError: The zoo is read-only.
        """
        self._require_writer()
        self._catalog.fold()
        sync_folder(self.folder)

    def close(self) -> None:
        """Close the catalog and let the next writer in. Safe to call twice."""
        self._catalog.close()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _start(self) -> None:
        """What a writer does first: check the catalog, clean up after a killed one."""
        self._catalog.quick_check()
        repairs = [f"removed the unfinished `{name}`" for name in self.folders.sweep()]
        for entry_id in self._catalog.removed_ids():
            if self.folders.has(entry_id):
                self.folders.discard(entry_id)
                repairs.append(f"removed the folder of `{entry_id}`, which had been taken out")
        self.repairs = tuple(repairs)

    def _add_batch(
        self, batch: list[tuple[Adapter, EntryInfo]], *, exact: bool, dtype: str
    ) -> list[ZooEntry]:
        from lora_gen.zoo import content

        result: list[ZooEntry] = []
        planned: dict[str, tuple[Adapter, ZooEntry]] = {}
        for adapter, info in batch:
            prepared = content.prepare(adapter, exact=exact, dtype=dtype)
            entry = _entry(prepared, info)
            self.guard.require_allowed([entry.id])
            known = self._known(entry, planned)
            planned.setdefault(entry.id, (prepared, known or entry))
            result.append(known or entry)
        self._require_one_split([entry for _, entry in planned.values()])
        fresh = [entry for _, entry in planned.values() if not self._catalog.get(entry.id)]
        published: list[str] = []
        try:
            for entry_id, (adapter, _) in planned.items():
                if self.folders.publish(entry_id, partial(content.write, adapter)):
                    published.append(entry_id)
            self._catalog.put(fresh)
        except BaseException:
            # A commit can fail after it happened, so only what the catalog disowns may go.
            for entry_id in published:
                if self._catalog.get(entry_id) is None:
                    self.folders.discard(entry_id)
            raise
        return result

    def _known(
        self, entry: ZooEntry, planned: dict[str, tuple[Adapter, ZooEntry]]
    ) -> ZooEntry | None:
        """The entry that holds the same weights already."""
        known = planned[entry.id][1] if entry.id in planned else self._catalog.get(entry.id)
        if known is None or _meaning(known) == _meaning(entry):
            return known
        raise ZooError(
            f"`{entry.id}` is in `{self.folder}` already, as task `{known.task}` for "
            f"`{known.base}` with other information. Remove that entry first."
        )

    def _require_one_split(self, entries: list[ZooEntry]) -> None:
        kept = (
            (entry.family, split)
            for entry in entries
            for split in self._catalog.splits_of(entry.family)
        )
        require_disjoint([*kept, *((entry.family, entry.split) for entry in entries)])

    def _require_writer(self) -> None:
        if self._lock is None:
            raise ZooError(
                f"`{self.folder}` is open for reading only. Open it without `read_only`."
            )


def _entry(prepared: Adapter, info: EntryInfo) -> ZooEntry:
    from lora_gen.zoo import content

    given = {part.name: getattr(info, part.name) for part in fields(EntryInfo)}
    return ZooEntry(
        **given,
        id=content.adapter_id(prepared),
        base=prepared.base or "",
        rank=prepared.max_rank,
        created=now(),
    )


def _meaning(entry: ZooEntry) -> ZooEntry:
    """The entry without when and where it came from: the same adapter may come again elsewhere."""
    extra = {name: value for name, value in entry.extra.items() if name != ORIGIN}
    return replace(entry, created="", extra=extra)
