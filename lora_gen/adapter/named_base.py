"""The base that an adapter's own config names: text from a stranger, followed only so far."""

from __future__ import annotations

from pathlib import Path

from lora_gen.adapter.base_model import EMBEDDED_BASES, resolve_base
from lora_gen.adapter.peft_config import CONFIG_NAME
from lora_gen.errors import BaseModelError
from lora_gen.strict_json import printable

_BASE_CONFIGS = ("config.json", "model_index.json")


def resolve_named_base(name: str) -> Path:
    """The folder of a base that an adapter names, if it is on this machine already.

    Nothing is fetched: whoever wrote the adapter would choose what is downloaded and run. What the
    user names is `resolve_base`'s.

    Args:
        name: An embedded id, the absolute folder of a model, or the id of one in the hub's cache.

    Raises:
        BaseModelError: It is none of these.
    """
    if name in EMBEDDED_BASES:
        return resolve_base(name)
    try:
        folder = _local(name) or resolve_base(_hub_id(name), local_files_only=True)
    except (BaseModelError, OSError) as error:
        raise BaseModelError(
            f"The adapter names the base {printable(name)}, which is not on this machine, and what "
            "an adapter names is never downloaded. Pass `--base` with a base that you trust."
        ) from error
    return folder


def _local(name: str) -> Path | None:
    path = Path(name)
    if not path.is_absolute() or name.startswith("//") or ".." in path.parts:
        return None
    is_model = any((path / config).is_file() for config in _BASE_CONFIGS)
    return path if is_model and not (path / CONFIG_NAME).exists() else None


def _hub_id(name: str) -> str:
    """The name, unless `resolve_base` would take it for a folder."""
    path = Path(name)
    if path.is_absolute() or name.startswith(("~", ".", "\\")) or path.exists():
        raise BaseModelError(f"{printable(name)} is a path.")
    return name
