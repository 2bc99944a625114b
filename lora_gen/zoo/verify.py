"""A full check of a zoo: every file hashed, every row and every name accounted for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lora_gen.errors import LoraGenError, ZooError
from lora_gen.files import verify_manifest

if TYPE_CHECKING:
    from lora_gen.zoo.catalog import Catalog
    from lora_gen.zoo.folders import AdapterFolders
    from lora_gen.zoo.guard import Guard


@dataclass(frozen=True, kw_only=True)
class VerifyReport:
    """What a full check of a zoo found."""

    checked: int
    """Entries whose files were hashed."""

    missing: tuple[str, ...] = ()
    """Ids in the catalog without a folder."""

    damaged: tuple[tuple[str, str], ...] = ()
    """(id, reason) of folders that differ from what was added."""

    orphaned: tuple[str, ...] = ()
    """Names under `adapters/` that no entry owns, relative to it."""

    catalog: tuple[str, ...] = ()
    """What is wrong with the catalog: broken pages, rows that differ from their digest."""

    unfinished: tuple[str, ...] = ()
    """What a writer is filling now, or left when it was killed; the next writer sweeps it."""

    quarantined: tuple[tuple[str, str], ...] = ()
    """(id, reason) of entries that are kept but not served."""

    blocked: tuple[str, ...] = ()
    """Entries that are served although their hash is on the block-list."""

    @property
    def ok(self) -> bool:
        """Whether every entry is whole; orphans only cost space."""
        return not self.missing and not self.damaged and not self.catalog

    def to_dict(self) -> dict[str, object]:
        """The report as JSON data."""
        damaged = [{"id": entry_id, "reason": reason} for entry_id, reason in self.damaged]
        held = [{"id": entry_id, "reason": reason} for entry_id, reason in self.quarantined]
        found = {"missing": list(self.missing), "damaged": damaged, "orphaned": list(self.orphaned)}
        guarded = {"quarantined": held, "blocked": list(self.blocked)}
        rest = {"catalog": list(self.catalog), "unfinished": list(self.unfinished), **guarded}
        return {"ok": self.ok, "checked": self.checked, **found, **rest}


def verify_zoo(folders: AdapterFolders, catalog: Catalog, guard: Guard) -> VerifyReport:
    """Hash every file of every entry, load it, and compare names on disk with the catalog."""
    missing: list[str] = []
    damaged: list[tuple[str, str]] = []
    quarantined = guard.quarantined()
    entry_ids = [*catalog.ids(), *quarantined]
    for entry_id in entry_ids:
        try:
            _require_whole(entry_id, folders, catalog)
        except FileNotFoundError:
            missing.append(entry_id)
        except (LoraGenError, OSError) as error:  # a sector that cannot be read is damage too
            damaged.append((entry_id, str(error)))
    # A writer may have removed some of them meanwhile; what is not in the catalog is not missed.
    gone = set(entry_ids) - {*catalog.ids(), *guard.quarantined()}
    owned = {f"{entry_id[:2]}/{entry_id}" for entry_id in {*entry_ids, *catalog.ids()}}
    blocked = guard.blocked()
    return VerifyReport(
        checked=len(entry_ids),
        missing=tuple(entry_id for entry_id in missing if entry_id not in gone),
        damaged=tuple(finding for finding in damaged if finding[0] not in gone),
        orphaned=tuple(name for name in folders.names() if name not in owned),
        catalog=tuple(catalog.damage()),
        unfinished=tuple(folders.unfinished()),
        quarantined=tuple(quarantined.items()),
        blocked=tuple(entry_id for entry_id in entry_ids if entry_id in blocked),
    )


def _require_whole(entry_id: str, folders: AdapterFolders, catalog: Catalog) -> None:
    from lora_gen.zoo import content

    if not folders.has(entry_id):
        raise FileNotFoundError(entry_id)
    verify_manifest(folders.path_of(entry_id), error=ZooError)
    adapter = content.read(folders.path_of(entry_id), entry_id)
    bases = catalog.fetch("SELECT base FROM entries WHERE id = ?", (entry_id,))
    if bases and bases[0][0] != adapter.base:
        raise ZooError(
            f"`{entry_id}` is for `{bases[0][0]}` in the catalog, but its folder says "
            f"`{adapter.base}`. Remove it, or add it again."
        )
