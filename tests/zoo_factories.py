"""Tiny adapters and zoos, offline, from a seed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from lora_gen.adapter.adapter import Adapter, LoraPair
from lora_gen.zoo.entry import EntryInfo
from lora_gen.zoo.store import Zoo

MODULES = ("model.layers.0.mlp.up_proj", "model.layers.0.self_attn.q_proj")


def zoo_adapter(seed: int = 0, *, rank: int = 2, scaling: float = 1.0) -> Adapter:
    """Two linear modules of width 4; another seed has other weights."""
    random = torch.Generator().manual_seed(seed)
    pairs = {
        name: LoraPair(
            lora_a=torch.randn(rank, 4, generator=random),
            lora_b=torch.randn(4, rank, generator=random),
            scaling=scaling,
        )
        for name in MODULES
    }
    return Adapter(pairs=pairs, base="tiny_lm", task_type="CAUSAL_LM")


def zoo_info(task: str = "upper", **fields: Any) -> EntryInfo:
    """An info with every field filled."""
    filled: dict[str, Any] = {
        "descriptions": (f"Do {task}.", "Grüße, 世界"),
        "prompts": ("abc", "def"),
        "examples": (("abc", "ABC"),),
        "seed": 3,
        "steps": 60,
        "accuracy": 0.9375,
        "extra": {"loss": [0.5, None]},
    }
    return EntryInfo(task=task, **(filled | fields))


def fill_zoo(folder: Path, count: int = 3) -> list[str]:
    """A closed zoo with `count` entries `task0`, `task1` …; their ids in that order."""
    items = [(zoo_adapter(seed), zoo_info(f"task{seed}")) for seed in range(count)]
    with Zoo.open(folder, create=True) as zoo:
        return [entry.id for entry in zoo.add_many(items)]


def start_python(script: str, *arguments: object) -> subprocess.Popen[str]:
    """A Python process that can import these helpers and what we test; its stdout is a pipe."""
    root = Path(__file__).resolve().parent
    path = os.pathsep.join((str(root.parent), str(root)))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
