"""Global random state of Python, NumPy and PyTorch as plain JSON data."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from training.order import derive_seed


def seed_everything(seed: int, *path: int | str) -> None:
    """Seed all global generators with independent seeds below `seed`."""
    random.seed(derive_seed(seed, *path, "python"))
    np.random.seed(derive_seed(seed, *path, "numpy") % 2**32)
    torch.manual_seed(derive_seed(seed, *path, "torch"))


def random_state() -> dict[str, Any]:
    """The present state of all global generators."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": [version, list(words), gauss],
        "numpy": [name, np.asarray(keys).tolist(), position, has_gauss, cached],
        "torch": torch.get_rng_state().numpy().tobytes().hex(),
        "cuda": [state.numpy().tobytes().hex() for state in torch.cuda.get_rng_state_all()]
        if torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        else [],
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Put back what `random_state` returned."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    torch.set_rng_state(_bytes(state["torch"]))
    if state["cuda"]:
        torch.cuda.set_rng_state_all([_bytes(text) for text in state["cuda"]])


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Whatever is drawn inside leaves no trace outside."""
    state = random_state()
    try:
        yield
    finally:
        restore_random_state(state)


def _bytes(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8)
