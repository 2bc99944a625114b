"""What a recipe says about a run, apart from its task: one frozen dataclass an owner."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from lora_gen.errors import ConfigError


def require(condition: bool, message: str) -> None:
    """Raise the sentence as a `ConfigError` unless the condition holds.

    Args:
        condition: What must be true.
        message: The whole sentence for the user.

    Raises:
        ConfigError: The condition is false.
    """
    if not condition:
        raise ConfigError(message)


def _require_at_least(name: str, value: float, lowest: float) -> None:
    require(
        math.isfinite(value) and value >= lowest,
        f"`{name}` is {value}, but must be at least {lowest}. Raise it in the recipe.",
    )


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """The optimizer, with weight decay on matrices only (vectors are norms and biases)."""

    name: Literal["adamw", "muon"] = "adamw"
    """`muon` orthogonalizes the updates of matrices (Jordan et al. 2024); the rest is AdamW's."""
    lr: float = 3e-4
    """Peak learning rate, reached after the warm-up."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of the first and the second moment."""
    eps: float = 1e-8
    """Added to the root of the second moment."""
    weight_decay: float = 0.01
    """Decoupled decay per unit of learning rate."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm; never up."""

    def __post_init__(self) -> None:
        _require_at_least("optimizer.lr", self.lr, 0.0)
        _require_at_least("optimizer.weight_decay", self.weight_decay, 0.0)
        require(
            all(0.0 <= beta < 1.0 for beta in self.betas),
            f"`optimizer.betas` is {list(self.betas)}, but both must lie in [0, 1).",
        )
        for name in ("eps", "max_grad_norm"):
            value = getattr(self, name)
            require(
                math.isfinite(value) and value > 0.0,
                f"`optimizer.{name}` is {value}, but must be positive and finite.",
            )


@dataclass(frozen=True, kw_only=True)
class LrSchedulerConfig:
    """The learning rate as a function of the step."""

    schedule: Literal["cosine", "constant", "trapezoid"] = "cosine"
    """Shape after the warm-up; `cosine` and `trapezoid` end at `max_steps`."""
    warmup_steps: int = 0
    """Steps of linear rise from zero."""
    final_ratio: float = 0.0
    """Share of the peak that `cosine` and `trapezoid` end at."""
    fall_share: float = 0.4
    """Share of the steps over which `trapezoid` falls; before it a run may still be lengthened."""

    def __post_init__(self) -> None:
        _require_at_least("lr_scheduler.warmup_steps", self.warmup_steps, 0)
        require(
            0.0 <= self.final_ratio <= 1.0,
            f"`lr_scheduler.final_ratio` is {self.final_ratio}, but must lie in [0, 1].",
        )
        require(
            0.0 < self.fall_share <= 1.0,
            f"`lr_scheduler.fall_share` is {self.fall_share}, but must lie in (0, 1].",
        )


@dataclass(frozen=True, kw_only=True)
class EmaConfig:
    """The moving average of the weights that is evaluated and saved."""

    decay: float = 0.999
    """Share of the old average that a step keeps; 0 makes the average equal to the weights."""
    warmup: bool = True
    """Use min(decay, (1 + step) / (10 + step)), so that a short run forgets its initial weights."""

    def __post_init__(self) -> None:
        require(0.0 <= self.decay < 1.0, f"`ema.decay` is {self.decay}, but must lie in [0, 1).")


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """When to write checkpoints, and how many to keep."""

    every: int = 500
    """Optimizer steps between checkpoints; the last step and a stop signal write one too."""
    keep: int = 2
    """Verified checkpoints that survive; at least 2, since the newest may become damaged."""

    def __post_init__(self) -> None:
        _require_at_least("checkpoint.every", self.every, 1)
        _require_at_least("checkpoint.keep", self.keep, 2)


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """What is written while training; `metrics.jsonl` always is."""

    log_every: int = 10
    """Optimizer steps between log lines; a line holds means since the line before."""
    eval_every: int = 0
    """Optimizer steps between evaluations by the task, on the averaged weights; 0 is never."""
    trackers: tuple[str, ...] = ()
    """Accelerate trackers by name: `tensorboard`, `trackio`, `wandb`."""

    def __post_init__(self) -> None:
        _require_at_least("tracking.log_every", self.log_every, 1)
        _require_at_least("tracking.eval_every", self.eval_every, 0)
        allowed = ("tensorboard", "trackio", "wandb")
        for name in self.trackers:
            require(
                name in allowed,
                f"`tracking.trackers` names {name!r}, but only {', '.join(allowed)} are known.",
            )


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything the loop needs to know."""

    output_dir: str
    """Folder of checkpoints, log, resolved recipe and final artifact; one run an output folder."""
    max_steps: int
    """Optimizer steps of the whole run."""
    batch_size: int
    """Examples a process sees in one micro-step."""
    seed: int = 0
    """Decides initial weights, order of data and every random draw."""
    gradient_accumulation_steps: int = 1
    """Micro-steps in an optimizer step."""
    mixed_precision: Literal["no", "bf16"] = "no"
    """`bf16` runs forward passes under autocast; weights and optimizer stay float32."""
    skip_bad_steps: int = 0
    """Steps in a row that may be left out because loss or gradient is not finite; then it stops."""
    threads: int = 0
    """CPU threads a process uses; 0 leaves PyTorch's own choice."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """How gradients become steps."""
    lr_scheduler: LrSchedulerConfig = field(default_factory=LrSchedulerConfig)
    """How the learning rate changes."""
    ema: EmaConfig = field(default_factory=EmaConfig)
    """How weights are averaged."""
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    """How progress is kept."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """How progress is shown."""

    def __post_init__(self) -> None:
        require(bool(self.output_dir), "`output_dir` is empty. Name a folder for the run.")
        for name in ("max_steps", "batch_size", "gradient_accumulation_steps"):
            _require_at_least(name, getattr(self, name), 1)
        for name in ("seed", "threads", "skip_bad_steps"):
            _require_at_least(name, getattr(self, name), 0)
