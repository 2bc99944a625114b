"""A nowcast inside a Transformers training with PEFT: now and then the adapter jumps ahead."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback

from lora_gen.weight_space.nowcast import Mover
from lora_gen.weight_space.nowcast_runs import NowcastOfRuns

SHARES = (0.0, 0.25, 0.5, 1.0)
"""Of a jump, tried where there is a loss to try it by."""


class NowcastCallback(TrainerCallback):
    """Lets a `Trainer`'s LoRA factors jump `nowcast.horizon` steps ahead.

    After every `spacing` optimizer steps the factors are kept; as soon as there are as many as the
    nowcast needs, they are moved in place and the history starts again. The optimizer's state stays
    as it is. It knows PEFT's parameter names (`lora_A`, `lora_B`) and nothing else of the model.

    Args:
        nowcast: What to jump by: a `Nowcast`, a `NowcastNet` or a `NowcastOfRuns`.
        jumps: At most so many jumps; a jump near the end, where the rate is low, gains nothing.
        loss_of: The model's loss on a few examples as it is. With it a jump is tried whole, by half
            and by a quarter, and goes as far as the loss falls most, or nowhere: weights that are
            likely are not always weights that are good.
    """

    def __init__(
        self,
        nowcast: Mover | NowcastOfRuns,
        *,
        jumps: int = 1,
        loss_of: Callable[[], float] | None = None,
    ) -> None:
        self.nowcast = nowcast
        self.jumps = jumps
        self.loss_of = loss_of
        self.jumped_at: list[int] = []
        """Steps at which the factors were moved, or a jump was tried."""
        self.shares: list[float] = []
        """How much of each jump was taken."""
        self._history: list[dict[str, Tensor]] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Keep the start, which is the first checkpoint."""
        self._history = [lora_factors(kwargs["model"])]

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Keep the factors, and move them when there are enough."""
        if state.global_step % self.nowcast.spacing or len(self.jumped_at) >= self.jumps:
            return
        model: nn.Module = kwargs["model"]
        self._history.append(lora_factors(model))
        if len(self._history) >= self.nowcast.history:
            self._jump(model)
            self.jumped_at.append(state.global_step)
            self._history = [lora_factors(model)]

    @torch.no_grad()
    def _jump(self, model: nn.Module) -> None:
        recent = self._history[-self.nowcast.history :]
        goal = _goal(self.nowcast, recent)
        share = 1.0
        if self.loss_of is not None:
            tried = {}
            for part in SHARES:
                _place(model, recent[-1], goal, part)
                tried[part] = self.loss_of()
            share = min(tried, key=lambda part: tried[part])
        _place(model, recent[-1], goal, share)
        self.shares.append(share)


def _goal(
    nowcast: Mover | NowcastOfRuns, recent: Sequence[Mapping[str, Tensor]]
) -> dict[str, Tensor]:
    """Where the factors jump to, by parameter."""
    if isinstance(nowcast, NowcastOfRuns):
        ends = nowcast.ends(*({_factor(n): value for n, value in one.items()} for one in recent))
        return {name: ends[_factor(name)] for name in recent[-1]}
    return {
        name: nowcast.moved([one[name] for one in recent], _factor(name)[1]) for name in recent[-1]
    }


def _factor(name: str) -> tuple[str, str]:
    """(module, side) of a parameter of PEFT's."""
    module = name.removeprefix("base_model.model.").split(".lora_")[0]
    return module, "lora_a" if "lora_A" in name else "lora_b"


def _place(
    model: nn.Module, start: dict[str, Tensor], goal: dict[str, Tensor], share: float
) -> None:
    """Set the factors to `share` of the way from start to goal."""
    for name, parameter in model.named_parameters():
        if name in goal:
            parameter.copy_(torch.lerp(start[name], goal[name], share))


def lora_factors(model: nn.Module) -> dict[str, Tensor]:
    """Copies of a model's trainable LoRA factors."""
    return {
        name: parameter.detach().clone()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and ("lora_A" in name or "lora_B" in name)
    }
