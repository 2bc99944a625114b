"""What augmentations of weights teach a reader: adapters read as descriptions, changed or not.

The reader is a ridge regression from sketches of delta weights (eight random directions a side, a
unit vector a module) to vectors of descriptions; the encoder's read-out is of this kind. It learns
from seen adapters and one augmented copy of each, and is asked for held-out adapters, as they were
trained and changed: which of the held-out descriptions is theirs?

python -m recipes.tiny_lm.weight_space.augment
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.algebra import truncate
from lora_gen.conditioning.text import TextEncoder
from lora_gen.weight_space.augment import (
    AugmentConfig,
    augmented,
    mixed,
    noised,
    with_modules_dropped,
)
from lora_gen.weight_space.quantize import quantize_adapter
from recipes.tiny_lm.weight_space.bench import HELD_OUT, Bench, Task, interval, save

SEEN, SHOWN, DIRECTIONS, TEXT_WIDTH, RIDGE = 300, 150, 8, 96, 0.5
TAUGHT: dict[str, AugmentConfig | None] = {
    "adapters as they are": None,
    "rank truncation": AugmentConfig(min_rank=1),
    "noise": AugmentConfig(noise=0.6),
    "4 bits": AugmentConfig(bits=4),
    "dropped modules": AugmentConfig(drop=0.4),
    "mixing": AugmentConfig(mix=0.4),
    "all of them": AugmentConfig(min_rank=1, noise=0.6, bits=4, drop=0.4, mix=0.4),
}
_FRAMES: dict[tuple[str, int], Tensor] = {}

Change = Callable[[Adapter, Adapter, torch.Generator], Adapter]
ASKED: dict[str, Change] = {
    "adapters as they are": lambda a, other, g: a,
    "rank 1": lambda a, other, g: truncate(a, 1),
    "noise of half the norm": lambda a, other, g: noised(a, 0.5, g),
    "4 bits": lambda a, other, g: quantize_adapter(a, bits=4).dequantized(),
    "half of the modules": lambda a, other, g: with_modules_dropped(a, 0.5, g),
    "a third of another": lambda a, other, g: mixed(a, other, 1 / 3),
}


def sketch(adapter: Adapter, names: Sequence[str]) -> Tensor:
    """P^T delta Q of every module as a unit vector, a missing module as zeros; (F,)."""
    rows = []
    for name in names:
        if name not in adapter.pairs:
            rows.append(torch.zeros(DIRECTIONS**2))
            continue
        a_RI, b_OR = (matrix.float() for matrix in adapter.pairs[name].matrices())
        left, right = _frame("out", len(b_OR)), _frame("in", a_RI.shape[1])
        seen = ((left @ b_OR) @ (a_RI @ right.mT)).flatten()
        rows.append(seen / seen.norm().clamp_min(1e-12))
    return torch.cat(rows)


def _frame(side: str, width: int) -> Tensor:
    if (side, width) not in _FRAMES:
        source = torch.Generator().manual_seed(width + (side == "in"))
        _FRAMES[side, width] = torch.randn(DIRECTIONS, width, generator=source)
    return _FRAMES[side, width]


def texts_of(tasks: Sequence[Task], encoder: TextEncoder) -> Tensor:
    """Pooled vectors of the first descriptions, one a task."""
    rows = []
    for start in range(0, len(tasks), 64):
        texts = [task.entry.descriptions[0] for task in tasks[start : start + 64]]
        rows.append(encoder.pool(encoder.encode(texts)))
    return torch.cat(rows)


def read_out(x_NF: Tensor, y_NE: Tensor) -> Tensor:
    """Ridge regression by its dual, (F, E)."""
    kernel_NN = x_NF @ x_NF.mT
    kernel_NN.diagonal().add_(RIDGE * float(kernel_NN.diagonal().mean()))
    weights: Tensor = x_NF.mT @ torch.linalg.solve(kernel_NN, y_NE)
    return weights


def measure(bench: Bench) -> dict[str, Any]:
    """Top-1 of the description among the held-out ones, by what was taught and what is asked."""
    seen, held = bench.tasks(("seen",), SEEN, 2), bench.tasks(HELD_OUT, SHOWN, 2)
    names = sorted(seen[0].adapter.pairs)
    encoder = TextEncoder.from_pretrained()
    known, wanted = texts_of(seen, encoder), texts_of(held, encoder)
    center = known.mean(0)
    _, sizes_E, main = torch.linalg.svd(known - center, full_matrices=False)
    project = main[:TEXT_WIDTH].mT / sizes_E[:TEXT_WIDTH].sqrt()
    known, wanted = (known - center) @ project, (wanted - center) @ project
    gallery = torch.nn.functional.normalize(wanted, dim=1)
    source = torch.Generator().manual_seed(0)
    plain = torch.stack([sketch(task.adapter, names) for task in seen])
    asked = {}
    for name, change in ASKED.items():
        others = [held[i - 1].adapter for i in range(len(held))]
        changed = [change(t.adapter, o, source) for t, o in zip(held, others, strict=True)]
        asked[name] = torch.stack([sketch(adapter, names) for adapter in changed])
    report: dict[str, Any] = {"seen": len(seen), "shown": len(held), "asked": list(ASKED)}
    report["rows"] = {}
    for name, config in TAUGHT.items():
        if config is None:
            x, y = plain, known
        else:
            copies = [
                augmented(task.adapter, config, source, others=[seen[i - 1].adapter])
                for i, task in enumerate(seen)
            ]
            x = torch.cat([plain, torch.stack([sketch(copy, names) for copy in copies])])
            y = torch.cat([known, known])
        weights = read_out(x, y)
        report["rows"][name] = {
            what: interval(_first(rows @ weights, gallery)) for what, rows in asked.items()
        }
        print(name, {k: v["value"] for k, v in report["rows"][name].items()}, flush=True)
        save("augment", report)
    return report


def _first(read_NE: Tensor, gallery_NE: Tensor) -> list[float]:
    best = (torch.nn.functional.normalize(read_NE, dim=1) @ gallery_NE.mT).argmax(1)
    return [float(hit) for hit in best == torch.arange(len(read_NE))]


if __name__ == "__main__":
    measure(Bench())
