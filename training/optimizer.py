"""AdamW and its learning rate."""

from __future__ import annotations

import math

import torch
from torch import nn

from training.config import LrSchedulerConfig, OptimizerConfig


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW over the trained parameters: one group with weight decay (matrices), one without.

    Args:
        model: Its parameters with `requires_grad=True` are optimized.
        config: Hyperparameters.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=config.lr,
        betas=config.betas,
        eps=config.eps,
        fused=True,  # one kernel a step: with hundreds of small tensors the default is bound by Python
    )


def learning_rate(step: int, *, peak: float, max_steps: int, config: LrSchedulerConfig) -> float:
    """Learning rate of optimizer step `step`.

    Args:
        step: Counts from 0.
        peak: Rate after the warm-up.
        max_steps: Where `cosine` reaches its end.
        config: Shape.
    """
    if step < config.warmup_steps:
        return peak * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return peak
    span = max(1, max_steps - config.warmup_steps)
    share = min(1.0, (step - config.warmup_steps) / span)
    floor = config.final_ratio
    return peak * (floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * share)))
