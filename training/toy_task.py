"""A regression that trains in a second: the smoke recipe and the tests of the loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from training.config import require
from training.order import batch_positions, derive_seed
from training.task import TaskContext


@dataclass(frozen=True, kw_only=True)
class ToyConfig:
    """Size of the toy."""

    num_examples: int = 64
    """Examples in an epoch."""
    hidden_dim: int = 16
    """Width of the network, even."""
    noise: float = 0.01
    """Standard deviation of the noise that the loss adds to its inputs."""
    dropout: float = 0.1
    """Share of hidden units dropped, from PyTorch's global random state."""

    def __post_init__(self) -> None:
        require(
            self.num_examples >= 1,
            f"`task.num_examples` is {self.num_examples}, but must be at least 1.",
        )
        require(
            self.hidden_dim >= 2 and self.hidden_dim % 2 == 0,
            f"`task.hidden_dim` is {self.hidden_dim}, but must be even and positive.",
        )


class ToyTask:
    """Learn y = sin(x0) + x1 from a fixed set of points."""

    def __init__(self, config: ToyConfig, context: TaskContext) -> None:
        """Draw the points and build the network.

        Args:
            config: Sizes.
            context: Seed, batch size and device.
        """
        self.config, self.context = config, context
        generator = torch.Generator().manual_seed(derive_seed(context.seed, "toy data"))
        self.inputs = torch.rand(config.num_examples, 2, generator=generator) * 4 - 2
        self.targets = self.inputs[:, :1].sin() + self.inputs[:, 1:]
        self.model: nn.Module = nn.Sequential(
            nn.Linear(2, config.hidden_dim),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.LayerNorm(config.hidden_dim),
            nn.Linear(config.hidden_dim, 1),
        )

    def batch(self, index: int) -> dict[str, Tensor]:
        """Points of micro-batch `index`."""
        positions = batch_positions(
            index,
            batch_size=self.context.batch_size,
            length=self.config.num_examples,
            seed=self.context.seed,
        )
        return {"inputs": self.inputs[positions], "targets": self.targets[positions]}

    def loss(
        self, model: nn.Module, batch: Any, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """Mean squared error on noised inputs."""
        inputs = batch["inputs"]
        noise = torch.randn(inputs.shape, generator=generator, device=inputs.device)
        error = model(inputs + self.config.noise * noise) - batch["targets"]
        return error.square().mean(), {"mean_error": error.detach().mean()}

    def evaluate(self, model: nn.Module, step: int) -> Mapping[str, float]:
        """Mean squared error on all points, without noise or dropout."""
        device = self.context.device
        with torch.no_grad():
            error = model(self.inputs.to(device)) - self.targets.to(device)
        return {"mse": float(error.square().mean())}

    def save(self, folder: Path, model: nn.Module) -> None:
        """Write the network's weights."""
        tensors = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
        save_file(tensors, folder / "model.safetensors")

    def fingerprint(self) -> str:
        """Hash of the points."""
        return sha256(self.inputs.numpy().tobytes() + self.targets.numpy().tobytes()).hexdigest()


def build_toy(config: ToyConfig, context: TaskContext) -> ToyTask:
    """The toy task of a recipe."""
    return ToyTask(config, context)
