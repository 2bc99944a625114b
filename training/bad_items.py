"""An adapter of the zoo that cannot be learned from: set aside with its reason, and said."""

from __future__ import annotations

from pathlib import Path

from lora_gen.errors import LockedError, StorageError, ZooError
from lora_gen.zoo.store import Zoo


def set_aside(folder: Path, entry_id: str, reason: Exception) -> ZooError:
    """Put an entry into quarantine; the error to raise says whether that was possible.

    The run stops: what it learns from has changed, and a run that went on would not be the one
    that its checkpoints describe. The next start goes on without the entry.

    Args:
        folder: The zoo.
        entry_id: The entry that could not be read.
        reason: Why not.
    """
    try:
        with Zoo.open(folder) as zoo:
            zoo.guard.quarantine(entry_id, f"training could not read it: {reason}")
        then = "It is in quarantine now; start again to go on without it"
    except (LockedError, StorageError, ZooError) as error:
        then = (
            f"It could not be put into quarantine ({str(error).rstrip('.')}); do that with "
            "`lora-gen zoo quarantine`, then start again"
        )
    return ZooError(f"`{entry_id}` cannot be learned from ({str(reason).rstrip('.')}). {then}.")
