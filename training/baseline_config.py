"""What a recipe of a baseline says beside what a generator's says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from training.config import require
from training.generator_config import GeneratorTaskConfig

BY_BEHAVIOR = ("hypernetwork_behavior", "multi_task")
"""Methods that learn through the frozen base; the others copy the zoo's weights."""


@dataclass(frozen=True, kw_only=True)
class BaselineTaskConfig(GeneratorTaskConfig):
    """Data and base as for a generator; the network is a published one."""

    method: Literal[
        "hypernetwork_behavior",
        "hypernetwork_reconstruction",
        "prompt_decoder",
        "cvae",
        "latent_diffusion",
        "multi_task",
    ] = "hypernetwork_behavior"
    """Which, see `lora_gen.models.baselines`."""
    rank: int = 2
    """Rank of the adapters it writes; at most the largest of `objective.ranks`."""
    hidden_dim: int = 256
    """Width of its network."""
    target: Literal["tokens", "delta"] = "tokens"
    """What a reconstruction is compared on: canonical factors, or their products."""
    kl_weight: float = 0.005
    """Weight of the CVAE's divergence beside its squared error, as published."""
    autoencoder_steps: int = 400
    """Micro-batches that teach latent diffusion's autoencoder; later ones teach its denoiser."""

    def __post_init__(self) -> None:
        super().__post_init__()
        goal = self.objective
        require(
            self.method in BY_BEHAVIOR or self.zoo is not None,
            f"`task.zoo` is missing, but `task.method={self.method}` copies its adapters. Set it.",
        )
        require(
            goal.drop_text == 0,
            f"`task.objective.drop_text` is {goal.drop_text}, but a baseline reads nothing but the "
            "text. Set it to 0.",
        )
        require(
            1 <= self.rank <= max(goal.ranks),
            f"`task.rank` is {self.rank}, but must be between 1 and the largest of "
            f"`task.objective.ranks`, {max(goal.ranks)}.",
        )
