"""Weights on their way into the zoo's folders and back: the content address and its check."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from lora_gen.adapter.adapter import Adapter, require_finite
from lora_gen.adapter.io import load_adapter, save_adapter
from lora_gen.adapter.peft_config import CONFIG_NAME, WEIGHTS_NAME
from lora_gen.adapter.profile import cast_factors, to_portable
from lora_gen.errors import LoraGenError, ZooError
from lora_gen.files import publish_folder, sha256_file

DTYPES = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
}


def adapter_id(adapter: Adapter) -> str:
    """Content address of the factors: 40 hex digits of blake2b.

    It covers module paths, shapes, dtypes and bytes, with scaling folded into B. Base, task and
    file metadata do not change it.
    """
    digest = hashlib.blake2b(digest_size=20)
    for name, pair in adapter.pairs.items():
        folded = pair.folded()
        kind = "lora_embedding" if pair.is_embedding else "lora"
        for side, tensor in (("A", folded.lora_a), ("B", folded.lora_b)):
            key = f"{name}.{kind}_{side}"
            header = json.dumps([key, str(tensor.dtype), list(tensor.shape)]).encode()
            digest.update(len(header).to_bytes(8, "little") + header + _bytes(tensor))
    return digest.hexdigest()


def file_hashes(path: Path) -> list[str]:
    """Sha256 of the weight files of an adapter folder, or of one file: what block-lists name."""
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    return [sha256_file(file) for file in files]


def prepare(adapter: Adapter, *, exact: bool, dtype: str) -> Adapter:
    """The adapter as the zoo keeps it: scaling folded into B in float32, then rounded to `dtype`.

    Args:
        adapter: Any adapter.
        exact: Keep its ranks; otherwise pad them as the portable profile does.
        dtype: A name in `DTYPES`.

    Raises:
        AdapterValueError: A value is not finite, or too large for `dtype`.
        ZooError: The dtype is unknown, the adapter is empty, or it names no base.
    """
    if dtype not in DTYPES:
        raise ZooError(f"`dtype` is `{dtype}`; a zoo keeps {', '.join(DTYPES)}.")
    if not adapter.pairs:
        raise ZooError("`adapter` has no modules, so there is nothing to keep. Check its file.")
    if not adapter.base:
        raise ZooError("`adapter` names no base model. Set `base` to the model it modifies.")
    adapter = adapter if exact else to_portable(adapter)
    require_finite(adapter)
    pairs = {
        name: replace(pair, lora_a=pair.lora_a.float(), lora_b=pair.lora_b.float()).folded()
        for name, pair in adapter.pairs.items()
    }
    return cast_factors(replace(adapter, pairs=pairs), DTYPES[dtype])


def write(adapter: Adapter, folder: Path) -> None:
    """Publish a prepared adapter under `folder`: config, weights and manifest, nothing else.

    Raises:
        LoraGenError: The adapter cannot be written as PEFT's files, or the disk refused.
    """
    with publish_folder(folder) as temp:
        complete = save_adapter(adapter, temp / "peft", exact=True)
        for name in (CONFIG_NAME, WEIGHTS_NAME):
            os.rename(complete / name, temp / name)
        shutil.rmtree(complete)  # a card for each of hundreds of entries would repeat the catalog


def read(folder: Path, entry_id: str) -> Adapter:
    """The adapter in `folder`, after its content address was checked.

    Raises:
        ZooError: The files are damaged, or hold other weights.
    """
    try:
        adapter = load_adapter(folder, allow_embeddings=True)
    except (LoraGenError, OSError) as error:  # a file may go while it is read: a writer removed it
        raise ZooError(
            f"`{entry_id}` is damaged in the zoo ({str(error).rstrip('.')}). "
            "Remove it, or add it again."
        ) from error
    if adapter_id(adapter) != entry_id:
        raise ZooError(
            f"`{entry_id}` is damaged in the zoo: its folder holds other weights. "
            "Remove it, or add it again."
        )
    return adapter


def _bytes(tensor: Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().flatten()
    return flat.view(torch.uint8).numpy().tobytes()
