"""A nowcast whose weights depend on how a run moves: a small network over its last differences.

It sees the Gram matrix of a factor's last differences: how long they are beside each other and
beside the factor, and at which angles. Its output is one weight a difference, so a prediction is
still a sum of differences, and a run in another constant orthogonal gauge is predicted in that
gauge: nothing that it reads or adds up depends on it. Learned by least squares on the jump itself,
for which the Gram matrices are all that is needed of other runs.

Shapes: W windows, K differences, F features, Z width of the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lora_gen.adapter.adapter import Adapter
from lora_gen.errors import ConfigError
from lora_gen.files import atomic_write_json
from lora_gen.strict_json import read_json
from lora_gen.weight_space.nowcast import SIDES, predicted, require_one_run

WIDTH, STEPS, RATE = 32, 400, 1e-2
_TINY = 1e-30


@dataclass(frozen=True, kw_only=True, eq=False)
class NowcastNet:
    """Used like `Nowcast`: `predict`, `moved`, and the callback."""

    network: nn.Sequential
    differences: int
    """K."""
    spacing: int
    """Optimizer steps between two checkpoints."""
    horizon: int
    """Optimizer steps that are predicted at once."""

    @property
    def history(self) -> int:
        """Checkpoints that a prediction needs."""
        return self.differences + 1

    def predict(self, history: Sequence[Adapter]) -> Adapter:
        """The run's adapter `horizon` steps after the last of its checkpoints, oldest first.

        Raises:
            AdapterMismatchError: Too few checkpoints, or they are not of one run.
        """
        return predicted(self, history)

    @torch.no_grad()
    def moved(self, tensors: Sequence[Tensor], side: str) -> Tensor:
        """One factor `horizon` steps later, from its last values, oldest first."""
        steps_KP, last = _steps(tensors, self.differences)
        features = _features(steps_KP @ steps_KP.mT, float(last.double().square().sum()), side)
        weights_K = self.network(features[None])[0].double()
        moved: Tensor = last + (weights_K @ steps_KP).view(last.shape).to(last.dtype)
        return moved

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        values = {name: value.tolist() for name, value in self.network.state_dict().items()}
        sizes = {"differences": self.differences, "spacing": self.spacing, "horizon": self.horizon}
        atomic_write_json(path, {**sizes, "network": values})

    @classmethod
    def load(cls, path: Path) -> NowcastNet:
        """What `save` wrote.

        Raises:
            ConfigError: The file is no such nowcast.
        """
        content: dict[str, Any] = read_json(path, error=ConfigError)
        try:
            differences = int(content["differences"])
            network = _network(differences)
            values = {n: torch.tensor(v) for n, v in content["network"].items()}
            network.load_state_dict(values)
            sizes = {"spacing": int(content["spacing"]), "horizon": int(content["horizon"])}
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise ConfigError(
                f"`{path}` is not a nowcast network ({type(error).__name__}). Pass what "
                "`NowcastNet.save` wrote."
            ) from error
        return cls(network=network.requires_grad_(False), differences=differences, **sizes)


def fit_nowcast_net(
    runs: Sequence[Sequence[Adapter]],
    *,
    spacing: int,
    ahead: int,
    differences: int = 3,
    seed: int = 0,
) -> NowcastNet:
    """The network that predicts best, over every window, module and side of every run.

    Each window counts by its relative error, so that large modules and early steps do not decide.

    Args:
        runs: Checkpoints of each run, equally spaced, oldest first.
        spacing: Optimizer steps between two checkpoints.
        ahead: Checkpoints to predict at once.
        differences: Last differences that a prediction sees.
        seed: Draws the network's start.

    Raises:
        ConfigError: No run is long enough.
        AdapterMismatchError: A run's checkpoints differ in modules or shapes.
    """
    windows = [
        window
        for run in runs
        for window in _windows(run, differences=differences, ahead=ahead)
        if window[3] > _TINY
    ]
    if not windows:
        raise ConfigError(
            f"No run has {differences + ahead + 1} checkpoints that move, so there is nothing to "
            "learn from. Pass longer runs."
        )
    features_WF = torch.stack([window[0] for window in windows])
    gram_WKK = torch.stack([window[1] / window[3] for window in windows]).float()
    right_WK = torch.stack([window[2] / window[3] for window in windows]).float()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _network(differences)
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
        weights_WK = network(features_WF)
        squared_W = torch.einsum("wk,wkl,wl->w", weights_WK, gram_WKK, weights_WK)
        loss = (1 - 2 * (weights_WK * right_WK).sum(1) + squared_W).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return NowcastNet(
        network=network.requires_grad_(False),
        differences=differences,
        spacing=spacing,
        horizon=spacing * ahead,
    )


def _network(differences: int) -> nn.Sequential:
    features = differences + differences * (differences - 1) // 2 + 1
    network = nn.Sequential(
        nn.Linear(features, WIDTH),
        nn.Tanh(),
        nn.Linear(WIDTH, WIDTH),
        nn.Tanh(),
        nn.Linear(WIDTH, differences),
    )
    last = network[-1]
    assert isinstance(last, nn.Linear)
    nn.init.zeros_(last.weight)
    return network


def _windows(
    run: Sequence[Adapter], *, differences: int, ahead: int
) -> list[tuple[Tensor, Tensor, Tensor, float]]:
    """(features, Gram of differences, their products with the jump, squared jump) of each."""
    require_one_run(run)
    found = []
    for name in run[0].pairs:
        for side in SIDES:
            values = [getattr(one.pairs[name], side) for one in run]
            for last in range(differences, len(run) - ahead):
                steps_KP, now = _steps(values[: last + 1], differences)
                jump_P = (values[last + ahead] - now).double().flatten()
                gram_KK = steps_KP @ steps_KP.mT
                size = float(now.double().square().sum())
                features_F = _features(gram_KK, size, side)
                found.append((features_F, gram_KK, steps_KP @ jump_P, float(jump_P @ jump_P)))
    return found


def _steps(tensors: Sequence[Tensor], differences: int) -> tuple[Tensor, Tensor]:
    """(last differences as rows, newest first, float64; the last value)."""
    recent = [one.double().flatten() for one in tensors[-differences - 1 :]]
    steps = [recent[i] - recent[i - 1] for i in range(len(recent) - 1, 0, -1)]
    return torch.stack(steps), tensors[-1]


def _features(gram_KK: Tensor, size: float, side: str) -> Tensor:
    """Log lengths beside the newest, cosines, log length beside the factor, and the side; (F,)."""
    lengths_K = gram_KK.diagonal().clamp_min(_TINY).sqrt()
    cosines_KK = gram_KK / lengths_K / lengths_K[:, None]
    rows, columns = torch.triu_indices(len(gram_KK), len(gram_KK), offset=1)
    beside = (lengths_K[1:] / lengths_K[0]).log()
    own = (lengths_K[0] / max(size, _TINY) ** 0.5).log()[None]
    which = torch.tensor([1.0 if side == SIDES[0] else -1.0], dtype=torch.float64)
    found = torch.cat([beside, cosines_KK[rows, columns], own, which])
    return found.clamp(-10, 10).float()
