"""Uploads that are kept until an operator has looked at them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from app.service import limits
from app.service.inspection import examine
from app.service.models import Models
from app.service.sessions import OwnAdapter
from lora_gen.errors import ZooError


def quarantined(folder: Path | None, models: Models, own: OwnAdapter, description: Any) -> str:
    """Keep an upload in quarantine; the id it has there.

    Args:
        folder: Zoo that keeps uploads; made when it is not there.
        models: Say whether the base is one of the app's.
        own: The upload.
        description: What it does, as its visitor says.

    Raises:
        ZooError: This app takes no uploads, or the adapter has errors.
        LoraGenError: The adapter or its description is unusable.
    """
    from lora_gen.zoo.entry import ORIGIN, EntryInfo
    from lora_gen.zoo.origin import origin_of
    from lora_gen.zoo.store import Zoo

    if folder is None:
        raise ZooError(
            "This app keeps no uploads. Start it with `--quarantine FOLDER` to take them in."
        )
    text = limits.description(description, required=True) or ""
    models.spec(own.adapter.base or "")
    inspection = examine(models, own.folder, own.adapter, title=own.title)
    if inspection.errors:
        raise ZooError(f"The adapter is not taken in: {inspection.errors[0]}")
    info = EntryInfo(
        task=f"upload {own.id}",
        descriptions=(text,),
        extra={
            "source": "upload",
            "warnings": list(inspection.warnings),
            ORIGIN: {**origin_of(own.folder), "source": "upload"},
        },
    )
    with Zoo.open(folder, create=True) as zoo:
        entry_id = zoo.add(own.adapter, info).id
        zoo.guard.quarantine(entry_id, "unverified: uploaded, not yet checked by a person")
    return entry_id
