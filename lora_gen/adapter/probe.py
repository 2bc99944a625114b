"""Recognizes a base by folder, id or config, and asks one library for its modules."""

from __future__ import annotations

from pathlib import Path

from lora_gen.adapter.base_model import (
    EMBEDDED_BASES,
    PACKAGED_BASES,
    BaseModelSpec,
    local_folder,
    require_hub_id,
    resolve_base,
    unavailable_base,
)
from lora_gen.adapter.minilm import MINILM, MINILM_ID
from lora_gen.errors import BaseModelError
from lora_gen.strict_json import read_json


def probe_base(
    source: object, *, id: str | None = None, revision: str | None = None
) -> BaseModelSpec:
    """The spec of a Transformers or Diffusers base.

    Args:
        source: Embedded id, folder, hub id, or a Transformers config object.
        id: Name to record; by default the source's own.
        revision: Commit of a hub id.

    Raises:
        BaseModelError: The base is unknown, not available offline, or needs code of its own.
    """
    from lora_gen.adapter.probe_diffusers import probe_denoiser, probe_pipeline
    from lora_gen.adapter.probe_transformers import CONFIG_LIMITS, load_config, probe_transformers

    if not isinstance(source, str | Path):
        return probe_transformers(source, id)
    name = id or (MINILM_ID if source == MINILM else str(source))
    folder = config_folder(str(source), revision)
    if (folder / "model_index.json").is_file():
        return probe_pipeline(folder, name)
    if not (folder / "config.json").is_file():
        raise BaseModelError(
            f"`{source}` has no `config.json` and no `model_index.json`. Pass the folder of a "
            "Transformers model or a "
            "Diffusers pipeline."
        )
    data = read_json(folder / "config.json", limits=CONFIG_LIMITS, error=BaseModelError)
    if "_class_name" in data:
        return probe_denoiser(folder, name, str(data["_class_name"]))
    return probe_transformers(load_config(folder), name)


def config_folder(source: str, revision: str | None = None) -> Path:
    """A folder with the configs of a base; for a hub id only those are fetched."""
    local = local_folder(source)
    if local is not None:
        return local
    require_hub_id(source)
    if source in (*EMBEDDED_BASES, *PACKAGED_BASES):
        return resolve_base(source)
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                source,
                revision=revision,
                allow_patterns=["config.json", "model_index.json", "*/config.json"],
            )
        )
    except (OSError, ValueError) as error:
        raise unavailable_base(source) from error
