"""A full check of a zoo: every file hashed, every name accounted for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lora_gen.errors import LoraGenError, ZooError
from lora_gen.files import verify_manifest

if TYPE_CHECKING:
    from lora_gen.zoo.store import Zoo


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

    @property
    def ok(self) -> bool:
        """Whether every entry is whole; orphans only cost space."""
        return not self.missing and not self.damaged

    def to_dict(self) -> dict[str, object]:
        """The report as JSON data."""
        damaged = [{"id": entry_id, "reason": reason} for entry_id, reason in self.damaged]
        found = {"missing": list(self.missing), "damaged": damaged, "orphaned": list(self.orphaned)}
        return {"ok": self.ok, "checked": self.checked, **found}


def verify_zoo(zoo: Zoo) -> VerifyReport:
    """Hash every file of every entry, load it, and compare names on disk with the catalog."""
    missing: list[str] = []
    damaged: list[tuple[str, str]] = []
    entry_ids = zoo.ids()
    for entry_id in entry_ids:
        try:
            if not zoo.folders.has(entry_id):
                missing.append(entry_id)
                continue
            verify_manifest(zoo.folders.path_of(entry_id), error=ZooError)
            zoo.load(entry_id)
        except LoraGenError as error:
            damaged.append((entry_id, str(error)))
    owned = {f"{entry_id[:2]}/{entry_id}" for entry_id in entry_ids}
    return VerifyReport(
        checked=len(entry_ids),
        missing=tuple(missing),
        damaged=tuple(damaged),
        orphaned=tuple(name for name in zoo.folders.names() if name not in owned),
    )
