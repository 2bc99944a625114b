"""Factors of many adapters side by side: any rank, any modules, in one gauge."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from lora_gen.evaluation.encoder_baselines.nets import Factors, Shapes, canonical_factors
from lora_gen.files import atomic_write_bytes
from lora_gen.zoo.store import Zoo

RANK = 8
"""Directions of a module that are kept, the largest; the few adapters of rank 16 lose the rest."""


def load_factors(
    zoos: Mapping[Path, Sequence[str]], cache: Path
) -> tuple[dict[str, tuple[Tensor, Tensor]], Shapes]:
    """Canonical float16 factors of entries of several zoos, with scalings folded in.

    Modules that an adapter lacks are zeros. What was computed once is kept in a file.

    Args:
        zoos: Folder -> ids, in the order of the rows.
        cache: Folder of the file.
    """
    key = json.dumps([RANK, [list(ids) for ids in zoos.values()]])
    path = cache / f"factors-{hashlib.blake2b(key.encode(), digest_size=8).hexdigest()}.safetensors"
    if not path.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        atomic_write_bytes(path, save(_read(zoos)))
    found = load_file(path)
    names = sorted({name.rpartition("/")[0] for name in found})
    factors = {name: (found[f"{name}/a"], found[f"{name}/b"]) for name in names}
    return factors, {name: (b.shape[1], a.shape[2]) for name, (a, b) in factors.items()}


def _read(zoos: Mapping[Path, Sequence[str]]) -> dict[str, Tensor]:
    total, row, found = sum(map(len, zoos.values())), 0, dict[str, Tensor]()
    for folder, ids in zoos.items():
        with Zoo.open(folder, read_only=True) as zoo:
            for entry_id in ids:
                for name, pair in zoo.load(entry_id).pairs.items():
                    a_RI, b_OR = (factor.detach().float() for factor in pair.matrices())
                    own = canonical_factors(a_RI, b_OR * pair.scaling, RANK)
                    for side, factor in zip(("a", "b"), own, strict=True):
                        stack = found.setdefault(
                            f"{name}/{side}", torch.zeros(total, *factor.shape, dtype=torch.half)
                        )
                        stack[row] = factor.half()
                row += 1
    return found


def rows_of(factors: Factors, entries: Sequence[int]) -> dict[str, tuple[Tensor, Tensor]]:
    """Factors of some adapters, float32."""
    return {name: (a[entries].float(), b[entries].float()) for name, (a, b) in factors.items()}
