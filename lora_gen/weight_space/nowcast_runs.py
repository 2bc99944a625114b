"""The end of a LoRA run from finished runs that began alike: it goes where those like it went.

All runs start from the same factors, as PEFT's do with one seed, so the factors of different runs
can be compared entry by entry. A run's end is its weights now plus a weighted sum of how the
finished runs went on from the same step. The weights are kernel ridge regression's on how far
factors have moved from the start, so that only matrices of runs x runs are solved.

Two numbers are kept for every value of every finished run.

Shapes: N finished runs, Q runs to predict, P entries of a factor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lora_gen.adapter.adapter import Adapter
from lora_gen.errors import AdapterMismatchError, ConfigError
from lora_gen.weight_space.nowcast import SIDES, require_one_run

RIDGES = (0.1, 0.3, 1.0, 3.0, 10.0)
"""Pulls towards the mean that are tried, relative to the kernel's own size."""
_TINY = 1e-30

Factor = tuple[str, str]
"""(module, side)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class NowcastOfRuns:
    """Used like `Nowcast`, once: at the step it was fitted for."""

    start: Mapping[Factor, Tensor]
    """Factors that all runs start from."""
    moves: Mapping[Factor, Tensor]
    """How far the finished runs had moved, each factor scaled to count the same; (N, P)."""
    sizes: Mapping[Factor, float]
    """What `moves` were divided by."""
    rests: Mapping[Factor, Tensor]
    """How they went on from there, (N, P)."""
    bias: float
    """What the kernel has everywhere: the part that all runs share."""
    inverse_NN: Tensor
    """Of the kernel with its ridge."""
    left_out: float
    """Squared error of the rest of a finished run by the others, relative to its square."""
    spacing: int
    """Optimizer steps from the start to the jump."""
    horizon: int
    """Optimizer steps from the jump to the end."""

    @property
    def history(self) -> int:
        """Checkpoints that a prediction needs: the start and now."""
        return 2

    def predict(self, history: Sequence[Adapter]) -> Adapter:
        """The adapter at the end of a run, from its start and its checkpoint `spacing` steps later.

        Raises:
            AdapterMismatchError: The run has other modules, or another start.
        """
        if len(history) != 2:
            raise AdapterMismatchError(
                f"A nowcast of runs needs the start and one checkpoint, and got {len(history)} "
                "adapters. Pass those two."
            )
        require_one_run(history)
        found = self.ends(*(factors_of_run(one) for one in history))
        pairs = {}
        for name, pair in history[-1].pairs.items():
            a_RI = found[name, "lora_a"].to(pair.lora_a.dtype)
            b_OR = found[name, "lora_b"].to(pair.lora_b.dtype)
            pairs[name] = replace(pair, lora_a=a_RI, lora_b=b_OR)
        return replace(history[-1], pairs=pairs)

    def ends(
        self, start: Mapping[Factor, Tensor], now: Mapping[Factor, Tensor]
    ) -> dict[Factor, Tensor]:
        """The factors at the end, from those at the start and `spacing` steps later.

        Raises:
            AdapterMismatchError: The run has other modules, or another start.
        """
        self._require_start(start)
        seen_N = torch.full((len(self.inverse_NN),), self.bias, dtype=torch.float64)
        for factor, moved_NP in self.moves.items():
            move_P = (now[factor] - start[factor]).flatten().double() / self.sizes[factor]
            seen_N += moved_NP.double() @ move_P
        weights_N = (self.inverse_NN @ seen_N).float()
        return {
            factor: now[factor] + (weights_N @ rest_NP).view_as(now[factor]).to(now[factor].dtype)
            for factor, rest_NP in self.rests.items()
        }

    def _require_start(self, start: Mapping[Factor, Tensor]) -> None:
        alike = start.keys() == self.start.keys() and all(
            start[factor].shape == own.shape
            and torch.allclose(start[factor].float(), own.float(), atol=1e-3, rtol=1e-2)
            for factor, own in self.start.items()
        )
        if not alike:
            raise AdapterMismatchError(
                "The run did not start from the factors that the finished runs started from, so "
                "their ways cannot be compared. Train with the same seed, rank and modules."
            )


def fit_nowcast_runs(
    runs: Sequence[Sequence[Adapter]], *, spacing: int, at: int, ends: int = 3
) -> NowcastOfRuns:
    """A nowcast from finished runs with one start; the ridge is chosen by leaving runs out.

    Args:
        runs: Checkpoints of each run, equally spaced, oldest first, the start among them.
        spacing: Optimizer steps between two checkpoints.
        at: Which checkpoint to jump from; the start is 0.
        ends: Last checkpoints whose mean is the end, since single ones are noisy.

    Raises:
        ConfigError: There are fewer than three runs, or they are too short.
        AdapterMismatchError: The runs differ in modules, shapes or start.
    """
    length = min((len(run) for run in runs), default=0)
    if len(runs) < 3 or not 0 < at < length - ends:
        raise ConfigError(
            f"There are {len(runs)} runs of {length} checkpoints or more; a nowcast at checkpoint "
            f"{at} needs three runs and {at + ends + 1} checkpoints of each. Pass more."
        )
    require_one_run([one for run in runs for one in (run[0], run[at])])
    start = factors_of_run(runs[0][0])
    moves, sizes, rests = {}, {}, {}
    kernel_NN = torch.zeros(len(runs), len(runs), dtype=torch.float64)
    for factor, first in start.items():
        now_NP = _rows([run[at] for run in runs], factor)
        end_NP = torch.stack([_rows([run[-i - 1] for run in runs], factor) for i in range(ends)])
        move_NP = now_NP - first.flatten().float()
        size = float(move_NP.square().sum(1).mean().sqrt()) or _TINY
        moves[factor], sizes[factor] = move_NP / size, size
        rests[factor] = end_NP.mean(0) - now_NP
        kernel_NN += moves[factor].double() @ moves[factor].double().mT
    bias = float(kernel_NN.diagonal().mean())
    inverse_NN, left_out = _fitted(kernel_NN + bias, bias, list(rests.values()))
    return NowcastOfRuns(
        start=start,
        moves=moves,
        sizes=sizes,
        rests=rests,
        bias=bias,
        inverse_NN=inverse_NN,
        left_out=left_out,
        spacing=spacing * at,
        horizon=spacing * (length - 1 - at),
    )


def _fitted(kernel_NN: Tensor, size: float, rests: Sequence[Tensor]) -> tuple[Tensor, float]:
    """(inverse with the best ridge, its relative error on runs left out), all factors alike."""
    best: tuple[float, Tensor] | None = None
    eye_NN = torch.eye(len(kernel_NN), dtype=torch.float64)
    for ridge in RIDGES:
        inverse_NN = torch.linalg.inv(kernel_NN + ridge * size * eye_NN)
        hat_NN = kernel_NN @ inverse_NN
        error_NN = (eye_NN - hat_NN) / (1 - hat_NN.diagonal())[:, None]
        errors = [
            float(((error_NN.float() @ rest_NP).square().sum()) / rest_NP.square().sum())
            for rest_NP in rests
            if bool(rest_NP.any())
        ]
        mean = sum(errors) / max(len(errors), 1)
        if best is None or mean < best[0]:
            best = mean, inverse_NN
    assert best is not None
    return best[1], best[0]


def factors_of_run(adapter: Adapter) -> dict[Factor, Tensor]:
    """An adapter's factors by module and side."""
    return {
        (name, side): getattr(pair, side).detach()
        for name, pair in adapter.pairs.items()
        for side in SIDES
    }


def _rows(adapters: Sequence[Adapter], factor: Factor) -> Tensor:
    name, side = factor
    return torch.stack(
        [getattr(one.pairs[name], side).detach().flatten().float() for one in adapters]
    )
