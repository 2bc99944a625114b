"""A moving average of trained parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from training.config import EmaConfig
from training.sharded import own_part, parted_like


class Ema:
    """Averages of trained parameters, by name; frozen parameters and buffers have none."""

    def __init__(self, model: nn.Module, config: EmaConfig) -> None:
        """Start at the model's present weights.

        Args:
            model: The module that is trained, unwrapped.
            config: Decay and warm-up.
        """
        self._config = config
        self._parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self._averages = {n: p.detach().clone() for n, p in self._parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the present weights; `step` counts finished optimizer steps from 1."""
        decay = self._config.decay
        if self._config.warmup:
            decay = min(decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(
            [own_part(average) for average in self._averages.values()],
            [own_part(parameter) for parameter in self._parameters.values()],
            1.0 - decay,
        )

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within it the model holds the averages; afterwards its own weights, bit for bit."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, parameter in self._parameters.items():
            kept = parameter.detach().clone()
            parameter.copy_(self._averages[name])
            self._averages[name].copy_(kept)

    def state_dict(self) -> dict[str, Tensor]:
        """The averages by parameter name."""
        return dict(self._averages)

    @torch.no_grad()
    def load_state_dict(self, averages: Mapping[str, Tensor]) -> None:
        """Copy averages in; the names must be those of `state_dict`."""
        for name, average in self._averages.items():
            average.copy_(parted_like(averages[name], average))
