"""AdamW, Muon for the matrices, and their learning rate."""

from __future__ import annotations

import math

import torch
from torch import nn

from training.config import OptimizerConfig, RunConfig


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """The optimizer over the trained parameters; weight decay is for matrices only.

    Args:
        model: Its parameters with `requires_grad=True` are optimized.
        config: Hyperparameters.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    matrices = [p for _, p in named if p.ndim >= 2]
    vectors = [p for _, p in named if p.ndim < 2]
    if config.name == "adamw":
        return _adamw([(matrices, config.weight_decay), (vectors, 0.0)], config)
    tables = [p for name, p in named if p.ndim != 2 or _is_table(name)]
    muon = torch.optim.Muon(
        [p for name, p in named if p.ndim == 2 and not _is_table(name)],
        lr=config.lr,
        weight_decay=config.weight_decay,
        adjust_lr_fn="match_rms_adamw",  # the same rate suits both halves
    )
    return _Joint([muon, _adamw([(tables, 0.0)], config)])


def _is_table(name: str) -> bool:
    """Embeddings and single rows: their rows are learned one by one, not as a map."""
    return any(word in name for word in ("embedding", "role", "kind", "null"))


def _adamw(
    groups: list[tuple[list[nn.Parameter], float]], config: OptimizerConfig
) -> torch.optim.AdamW:
    return torch.optim.AdamW(
        [{"params": params, "weight_decay": decay} for params, decay in groups if params],
        lr=config.lr,
        betas=config.betas,
        eps=config.eps,
        fused=True,  # one kernel a step: with many small tensors the default is bound by Python
    )


class _Joint(torch.optim.Optimizer):
    """Several optimizers as one: the same groups and state, so that a checkpoint sees no seam."""

    def __init__(self, parts: list[torch.optim.Optimizer]) -> None:
        super().__init__([group for part in parts for group in part.param_groups], {})
        self._parts = parts

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step of each part."""
        start = 0
        for part in self._parts:
            # Tied here, not once: `load_state_dict`, which Accelerate calls, puts new objects.
            count = len(part.param_groups)
            part.param_groups = self.param_groups[start : start + count]
            part.state = self.state
            start += count
            part.step()


def learning_rate(step: int, settings: RunConfig) -> float:
    """Learning rate of optimizer step `step`, counted from 0.

    It rises linearly for `warmup_steps`; then it stays, falls on half a cosine until the end, or
    stays and falls linearly over the last `fall_share` of the steps (`trapezoid`).
    """
    peak, shape = settings.optimizer.lr, settings.lr_scheduler
    if step < shape.warmup_steps:
        return peak * (step + 1) / shape.warmup_steps
    if shape.schedule == "constant":
        return peak
    span = max(1, settings.max_steps - shape.warmup_steps)
    share = min(1.0, (step - shape.warmup_steps) / span)
    floor = shape.final_ratio
    if shape.schedule == "trapezoid":
        return peak * (floor + (1.0 - floor) * min(1.0, (1.0 - share) / shape.fall_share))
    return peak * (floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * share)))
