"""PEFT's own `add_weighted_adapter` on the same adapters: the merges people use today."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from lora_gen.adapter.adapter import Adapter, LoraPair
from lora_gen.adapter.io import save_adapter

METHODS = ("linear", "ties", "dare_ties", "magnitude_prune")
_DENSITY = 0.5


def peft_merges(model: Any, adapters: Sequence[Adapter]) -> dict[str, Adapter]:
    """Method -> what PEFT makes of the adapters at weight 1 each."""
    names = [f"a{i}" for i in range(len(adapters))]
    with tempfile.TemporaryDirectory() as folder:
        for name, adapter in zip(names, adapters, strict=True):
            save_adapter(adapter, Path(folder) / name, exact=True)
        tuned: Any = PeftModel.from_pretrained(model, f"{folder}/{names[0]}", names[0])
        for name in names[1:]:
            tuned.load_adapter(f"{folder}/{name}", name)
    found = {}
    for method in METHODS:
        torch.manual_seed(0)
        options = {} if method == "linear" else {"density": _DENSITY}
        tuned.add_weighted_adapter(
            names, [1.0] * len(names), method, combination_type=method, **options
        )
        found[f"PEFT {method}"] = _read(tuned, method, adapters[0])
    tuned.unload()
    return found


def _read(tuned: Any, name: str, like: Adapter) -> Adapter:
    pairs = {}
    for path, module in tuned.base_model.model.named_modules():
        if path in like.pairs:
            pairs[path] = LoraPair(
                lora_a=module.lora_A[name].weight.detach().clone(),
                lora_b=module.lora_B[name].weight.detach().clone(),
                scaling=float(module.scaling[name]),
            )
    return Adapter(pairs=pairs, base=like.base, task_type=like.task_type)
