"""Later weights of a LoRA run from its early checkpoints.

Checkpoints of one run share their gauge, so their factors can be compared entry by entry. The next
weights are the last ones plus a weighted sum of the last differences; one weight for each
difference and side (A or B) is learned from other runs by least squares over all their entries.
That is linear in the factors, so a run in another constant gauge is predicted in that gauge.

Shapes: K differences of a history.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from lora_gen.adapter.adapter import Adapter
from lora_gen.errors import AdapterMismatchError, ConfigError
from lora_gen.files import atomic_write_json
from lora_gen.strict_json import read_json

RIDGE = 1e-6
"""Pull of the weights towards 0, relative to the differences' own size."""
SIDES = ("lora_a", "lora_b")


@dataclass(frozen=True, kw_only=True)
class Nowcast:
    """How far a run goes on along its last differences, newest first."""

    lora_a: tuple[float, ...]
    lora_b: tuple[float, ...]
    spacing: int
    """Optimizer steps between two checkpoints."""
    horizon: int
    """Optimizer steps that are predicted at once."""

    def __post_init__(self) -> None:
        if not self.lora_a or len(self.lora_a) != len(self.lora_b):
            raise ConfigError(
                f"A nowcast has {len(self.lora_a)} weights for A and {len(self.lora_b)} for B; it "
                "needs as many of both, at least one. Fit it again."
            )

    @property
    def history(self) -> int:
        """Checkpoints that a prediction needs."""
        return len(self.lora_a) + 1

    @classmethod
    def averaged(cls, *, decay: float, differences: int, spacing: int, horizon: int) -> Nowcast:
        """The baseline: an exponential average of the last differences goes on."""
        shares = [decay**i for i in range(differences)]
        weights = tuple(horizon / spacing * share / sum(shares) for share in shares)
        return cls(lora_a=weights, lora_b=weights, spacing=spacing, horizon=horizon)

    @classmethod
    def extrapolation(cls, *, spacing: int, horizon: int) -> Nowcast:
        """The baseline: the last difference goes on as it is."""
        return cls(
            lora_a=(horizon / spacing,),
            lora_b=(horizon / spacing,),
            spacing=spacing,
            horizon=horizon,
        )

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        atomic_write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> Nowcast:
        """What `save` wrote.

        Raises:
            ConfigError: The file is no nowcast.
        """
        content = read_json(path, error=ConfigError)
        try:
            return cls(
                lora_a=tuple(float(w) for w in content["lora_a"]),
                lora_b=tuple(float(w) for w in content["lora_b"]),
                spacing=int(content["spacing"]),
                horizon=int(content["horizon"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"`{path}` is not a nowcast ({error}). Pass what `Nowcast.save` wrote."
            ) from error

    def predict(self, history: Sequence[Adapter]) -> Adapter:
        """The run's adapter `horizon` steps after the last of its checkpoints, oldest first.

        Raises:
            AdapterMismatchError: Too few checkpoints, or they are not of one run.
        """
        return predicted(self, history)

    def moved(self, tensors: Sequence[Tensor], side: str) -> Tensor:
        """One factor `horizon` steps later, from its last values, oldest first."""
        weights = self.lora_a if side == "lora_a" else self.lora_b
        last = tensors[-1]
        steps = zip(weights, reversed(range(1, len(tensors))), strict=True)
        return last + sum((w * (tensors[i] - tensors[i - 1]) for w, i in steps), last * 0)


class Mover(Protocol):
    """What says how the factors of a run go on."""

    @property
    def history(self) -> int:
        """Checkpoints that a prediction needs."""
        ...

    @property
    def spacing(self) -> int:
        """Optimizer steps between two checkpoints."""
        ...

    @property
    def horizon(self) -> int:
        """Optimizer steps that are predicted at once."""
        ...

    def moved(self, tensors: Sequence[Tensor], side: str) -> Tensor:
        """One factor `horizon` steps later, from its last values, oldest first."""
        ...


def predicted(mover: Mover, history: Sequence[Adapter]) -> Adapter:
    """The run's adapter `mover.horizon` steps after the last of its checkpoints, oldest first.

    Raises:
        AdapterMismatchError: Too few checkpoints, or they are not of one run.
    """
    if len(history) < mover.history:
        raise AdapterMismatchError(
            f"A nowcast needs {mover.history} checkpoints, and got {len(history)}. Train on."
        )
    recent = list(history[-mover.history :])
    require_one_run(recent)
    pairs = {}
    for name, last in recent[-1].pairs.items():
        a_RI, b_OR = (
            mover.moved([getattr(one.pairs[name], side) for one in recent], side) for side in SIDES
        )
        pairs[name] = replace(last, lora_a=a_RI, lora_b=b_OR)
    return replace(recent[-1], pairs=pairs)


def fit_nowcast(
    runs: Sequence[Sequence[Adapter]], *, spacing: int, ahead: int, differences: int = 3
) -> Nowcast:
    """The weights that predict best, over every window of every run.

    Args:
        runs: Checkpoints of each run, equally spaced, oldest first.
        spacing: Optimizer steps between two checkpoints.
        ahead: Checkpoints to predict at once.
        differences: Last differences that a prediction sees.

    Raises:
        ConfigError: No run is long enough.
        AdapterMismatchError: A run's checkpoints differ in modules or shapes.
    """
    gram = {side: torch.zeros(differences, differences, dtype=torch.float64) for side in SIDES}
    right = {side: torch.zeros(differences, dtype=torch.float64) for side in SIDES}
    windows = 0
    for run in runs:
        require_one_run(run)
        for last in range(differences, len(run) - ahead):
            windows += 1
            for name in run[0].pairs:
                for side in SIDES:
                    values = [getattr(one.pairs[name], side).double().flatten() for one in run]
                    steps = [values[i] - values[i - 1] for i in range(last, last - differences, -1)]
                    steps_KP = torch.stack(steps)
                    gram[side] += steps_KP @ steps_KP.mT
                    right[side] += steps_KP @ (values[last + ahead] - values[last])
    if not windows:
        raise ConfigError(
            f"No run has {differences + ahead + 1} checkpoints, so there is nothing to learn from. "
            "Pass longer runs."
        )
    found = {}
    for side in SIDES:
        ridge = RIDGE * gram[side].diagonal().mean().clamp_min(1e-300)
        matrix = gram[side] + ridge * torch.eye(differences, dtype=torch.float64)
        found[side] = tuple(torch.linalg.solve(matrix, right[side]).tolist())
    return Nowcast(
        lora_a=found["lora_a"], lora_b=found["lora_b"], spacing=spacing, horizon=spacing * ahead
    )


def require_one_run(run: Sequence[Adapter]) -> None:
    """Check that the checkpoints have the same modules, shapes and scaling.

    Raises:
        AdapterMismatchError: They have not.
    """
    shapes = [
        {
            name: (pair.lora_a.shape, pair.lora_b.shape, pair.scaling)
            for name, pair in a.pairs.items()
        }
        for a in run
    ]
    if any(one != shapes[0] for one in shapes[1:]):
        raise AdapterMismatchError(
            "The checkpoints differ in modules, ranks or scaling, so they are not of one run. Pass "
            "checkpoints of one training."
        )
