"""Checkpoints: complete folders that appear by one rename, hold no pickle, and are resumed exactly.

`checkpoint-<step>/` holds `model`, `ema` and `optimizer` in safetensors, counters and random state
in `state.json`, the resolved `recipe.yaml`, and `manifest.json` with a hash of each file. A folder
without a valid manifest does not exist.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

import lora_gen
from lora_gen.errors import CheckpointError, StorageError
from lora_gen.files import (
    MANIFEST_NAME,
    atomic_write_text,
    discard_folder,
    make_folder,
    publish_folder,
    verify_manifest,
)
from training.reading import read_groups, read_scalars
from training.state import TrainState

_NAME = re.compile(r"checkpoint-(\d+)")
_STEMS = ("model", "ema", "optimizer")
_SPACE_RESERVE = 1.2


@dataclass(frozen=True)
class Identity:
    """What a checkpoint and the run that resumes it must share."""

    fingerprint: str
    """The task's hash of its data."""
    num_processes: int
    """Processes that share a step."""
    lora_gen: str = lora_gen.__version__
    """Version of the code."""
    torch: str = torch.__version__
    """Version of PyTorch; another one may round differently."""


def save_checkpoint(
    root: Path,
    state: TrainState,
    *,
    identity: Identity,
    recipe: str,
    processes: Sequence[Mapping[str, Any]],
    keep: int,
    parents: Sequence[str] = (),
    tensors: Mapping[str, dict[str, torch.Tensor]] | None = None,
) -> Path:
    """Publish `checkpoint-<step>`, move `LATEST`, then prune.

    Args:
        root: The run's output folder.
        state: What to write.
        identity: Written beside it and compared at resume.
        recipe: The resolved recipe as YAML.
        processes: Random state and pending log values of each process, by its index.
        keep: Verified checkpoints that survive.
        parents: Ids of what the weights were made from, for the manifest.
        tensors: What `state.tensors()` gave, where all processes had to be asked.

    Returns:
        The new folder.

    Raises:
        StorageError: The disk is full or refuses; older checkpoints are untouched.
    """
    groups = state.tensors() if tensors is None else tensors
    size = sum(t.numel() * t.element_size() for group in groups.values() for t in group.values())
    _require_space(root, size)
    final = root / f"checkpoint-{state.step}"
    if final.exists() and _damage(final):
        discard_folder(final)
    with publish_folder(final, overwrite=True, parents=parents) as temp:
        for stem, group in groups.items():
            _write_tensors(group, temp / f"{stem}.safetensors")
        scalars = {
            "step": state.step,
            "batches_seen": state.batches_seen,
            "identity": vars(identity),
            "processes": list(processes),
        }
        (temp / "state.json").write_text(json.dumps(scalars), encoding="utf-8")
        (temp / "recipe.yaml").write_text(recipe, encoding="utf-8")
    atomic_write_text(root / "LATEST", f"{final.name}\n")
    _prune(root, keep)
    return final


def find_checkpoint(root: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint that verifies, and a sentence for each newer one that does not.

    Args:
        root: The run's output folder; it may be missing.
    """
    skipped: list[str] = []
    for folder in _newest_first(root):
        damage = _damage(folder)
        if not damage:
            return folder, skipped
        skipped.append(f"Skipped `{folder.name}`: {damage}")
    return None, skipped


def read_parents(folder: Path) -> tuple[str, ...]:
    """Ids of what a verified checkpoint was made from."""
    manifest = json.loads((folder / MANIFEST_NAME).read_text(encoding="utf-8"))
    return tuple(str(parent) for parent in manifest.get("parents", ()))


def load_state(folder: Path, state: TrainState, *, process: int) -> Mapping[str, Any] | None:
    """Fill `state` from a verified checkpoint.

    Args:
        folder: What `find_checkpoint` found.
        state: Of the same model; changed in place.
        process: Index of this process.

    Returns:
        What `save_checkpoint` was given for this process, or None when it has nothing for it.

    Raises:
        CheckpointError: The tensors are not those of the model.
    """
    state.load_tensors(read_groups(folder, _STEMS))
    scalars = read_scalars(folder)
    state.step, state.batches_seen = scalars["step"], scalars["batches_seen"]
    own = scalars["processes"][process : process + 1]
    return own[0] if own and own[0].keys() >= {"random", "meter"} else None


def _write_tensors(tensors: dict[str, torch.Tensor], path: Path) -> None:
    try:
        save_file(tensors, path)
    except SafetensorError as error:  # the library's own name for a disk that refuses
        raise StorageError(
            f"`{path.parent}` could not be written ({error}). Free space and start again: older "
            "checkpoints are intact."
        ) from error


def _newest_first(root: Path) -> list[Path]:
    found = [(int(m[1]), p) for p in root.glob("checkpoint-*") if (m := _NAME.fullmatch(p.name))]
    return [path for _, path in sorted(found, reverse=True)]


def _damage(folder: Path) -> str:
    """Why a folder is no checkpoint, or an empty text."""
    try:
        verify_manifest(folder, error=CheckpointError)
    except (CheckpointError, OSError) as error:
        return str(error)
    return ""


def _prune(root: Path, keep: int) -> None:
    """Remove what is older than the newest `keep` checkpoints that verify."""
    verified = 0
    for folder in _newest_first(root):
        if verified >= keep:
            discard_folder(folder)
        elif not _damage(folder):
            verified += 1


def _require_space(root: Path, size: int) -> None:
    try:
        make_folder(root)
    except OSError as error:
        raise StorageError(
            f"`{root}` could not be made ({error.strerror}). Name another `output_dir`."
        ) from error
    free, needed = shutil.disk_usage(root).free, int(size * _SPACE_RESERVE)
    if free < needed:
        raise StorageError(
            f"`{root}` has {free / 2**20:.0f} MiB free, but a checkpoint needs "
            f"{needed / 2**20:.0f} MiB. Free space and start again: older checkpoints are intact."
        )
