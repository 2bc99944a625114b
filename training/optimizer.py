"""AdamW and its learning rate."""

from __future__ import annotations

import math

import torch
from torch import nn

from training.config import OptimizerConfig, RunConfig


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
        fused=True,  # one kernel a step: with many small tensors the default is bound by Python
    )


def learning_rate(step: int, settings: RunConfig) -> float:
    """Learning rate of optimizer step `step`, counted from 0.

    It rises linearly for `warmup_steps`; then it stays, or falls on half a cosine until the end.
    """
    peak, shape = settings.optimizer.lr, settings.lr_scheduler
    if step < shape.warmup_steps:
        return peak * (step + 1) / shape.warmup_steps
    if shape.schedule == "constant":
        return peak
    span = max(1, settings.max_steps - shape.warmup_steps)
    share = min(1.0, (step - shape.warmup_steps) / span)
    floor = shape.final_ratio
    return peak * (floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * share)))
