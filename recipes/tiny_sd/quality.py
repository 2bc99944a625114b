"""Tell how much an adapter helps its style from its weights alone, in closed form.

    python -m recipes.tiny_sd.quality --zoo build/tiny_sd/zoo --out build/tiny_sd/reports

What is predicted is the share of the base's error that an adapter removes on pictures of its style.
Kernel ridge regression learns it from seen styles, each left out in turn to choose the penalty and
to find how wide 90% intervals have to be; what is reported is of unseen styles alone. All adapters
have one recipe, so this is about styles, not about under-training.

Shapes: B adapters, F features, N seen ones.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.algebra import module_norms, singular_values
from lora_gen.adapter.stack import AdapterStack
from lora_gen.evaluation.encoder_quality import goodness
from lora_gen.evaluation.statistics import mean_interval
from lora_gen.files import atomic_write_json
from lora_gen.zoo.store import Zoo

PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
_COVER = 0.9


def left_out(kernel_NN: Tensor, truth_N: Tensor, penalty: float) -> Tensor:
    """What kernel ridge regression says of each adapter without having seen it, (N,).

    Source: the closed form of leaving one out, as in Golub, Heath & Wahba, 1979.
    """
    inverse_NN = torch.linalg.inv(kernel_NN + penalty * torch.eye(len(kernel_NN)).double())
    found: Tensor = truth_N - (inverse_NN @ truth_N) / inverse_NN.diagonal()
    return found


def predictions(kernel_BB: Tensor, truth_B: Tensor, seen_B: Tensor) -> tuple[Tensor, float]:
    """(what is predicted of every adapter (B,), half the width of a 90% interval).

    Args:
        kernel_BB: Likeness of adapters; one means the same.
        truth_B: What was measured; only that of seen adapters is read.
        seen_B: Which adapters may be learned from.
    """
    center = truth_B[seen_B].mean()
    kernel_NN, target_N = kernel_BB[seen_B][:, seen_B], truth_B[seen_B] - center
    guesses = {penalty: left_out(kernel_NN, target_N, penalty) for penalty in PENALTIES}
    penalty = min(PENALTIES, key=lambda p: float((guesses[p] - target_N).square().sum()))
    error_N = (guesses[penalty] - target_N).abs().sort().values
    weights_N = torch.linalg.solve(
        kernel_NN + penalty * torch.eye(len(kernel_NN)).double(), target_N
    )
    place = min(len(error_N) - 1, int(_COVER * (len(error_N) + 1)))
    return kernel_BB[:, seen_B] @ weights_N + center, float(error_N[place])


def kernels(adapters: Sequence[Adapter]) -> dict[str, Tensor]:
    """Likeness of adapters by what is read of them, (B, B) each."""
    stack = AdapterStack(adapters, dtype=torch.float32)
    gram_BB = stack.inner_products(stack).double()
    length_B = gram_BB.diagonal().sqrt()
    norms = [module_norms(adapter) for adapter in adapters]
    log_BF = torch.tensor([[own[name] for name in sorted(own)] for own in norms]).double().log()
    spectra = [singular_values(adapter) for adapter in adapters]
    shape_BF = torch.stack(
        [
            torch.cat([own[name].double() / own[name].double().norm() for name in sorted(own)])
            for own in spectra
        ]
    )
    own = {
        "norm": _nearness(length_B.log()[:, None]),
        "norms of modules": _nearness(log_BF),
        "spectra": _nearness(shape_BF),
        "directions": gram_BB / length_B[:, None] / length_B,
    }
    both = torch.stack([own["norms of modules"], own["spectra"], own["directions"]]).mean(0)
    return {**own, "norms, spectra and directions": both}


def _nearness(x_BF: Tensor) -> Tensor:
    """A Gaussian kernel on standardized features, one over the mean square distance wide."""
    x_BF = (x_BF - x_BF.mean(0)) / x_BF.std(0).clamp_min(1e-9)
    return (-torch.cdist(x_BF, x_BF).square() / (2 * x_BF.shape[1])).exp()


def measure(zoo: Zoo) -> dict[str, Any]:
    """Goodness and cover on unseen styles, by what is read of the weights."""
    entries = sorted((e for e in zoo.entries() if e.accuracy is not None), key=lambda e: e.task)
    truth_B = torch.tensor([entry.accuracy for entry in entries]).double()
    seen_B = torch.tensor([entry.split == "seen" for entry in entries])
    order = torch.randperm(len(entries), generator=torch.Generator().manual_seed(0))
    found = kernels([zoo.load(entry.id) for entry in entries])
    found["control: weights of another style"] = found["norms, spectra and directions"][order][
        :, order
    ]
    rows = {}
    for name, kernel_BB in found.items():
        predicted_B, half = predictions(kernel_BB, truth_B, seen_B)
        inside_B = (predicted_B - truth_B).abs() <= half
        rows[name] = {
            **goodness(predicted_B[~seen_B], truth_B[~seen_B]),
            "coverage": mean_interval(inside_B[~seen_B].double().tolist()).to_dict(),
            "width": 2 * half,
        }
    return {"learned_from": int(seen_B.sum()), "unseen": int((~seen_B).sum()), "methods": rows}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--zoo", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    with Zoo.open(args.zoo, read_only=True) as zoo:
        found = measure(zoo)
    for name, row in found["methods"].items():
        print(
            f"{name:32} tau {row['tau']:.3f} R2 {row['r2']:.3f} "
            f"covers {row['coverage']['value']:.3f} width {row['width']:.3f}"
        )
    atomic_write_json(args.out / "quality.json", found)


if __name__ == "__main__":
    main()
