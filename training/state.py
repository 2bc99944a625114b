"""Everything that changes while training, and its form in a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lora_gen.errors import CheckpointError
from training.ema import Ema
from training.metrics import Meter
from training.sharded import parted_like, whole


@dataclass
class TrainState:
    """A run between two optimizer steps."""

    model: nn.Module
    """The task's model, unwrapped."""
    optimizer: torch.optim.Optimizer
    """Unwrapped."""
    ema: Ema
    """Averages of the trained parameters."""
    meter: Meter = field(default_factory=Meter)
    """Values that wait for the next log line."""
    step: int = 0
    """Finished optimizer steps."""
    batches_seen: int = 0
    """Micro-batches consumed by all processes together: the number of the next one."""

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """File stem -> tensors on the CPU, for safetensors; sharded, every process must ask."""
        groups = {
            "model": _model_tensors(self.model),
            "ema": self.ema.state_dict(),
            "optimizer": {
                f"{key}.{name}": value
                for name, parameter in self.model.named_parameters()
                for key, value in self.optimizer.state.get(parameter, {}).items()
            },
        }
        return {
            stem: {name: whole(t.detach()).cpu().contiguous() for name, t in tensors.items()}
            for stem, tensors in groups.items()
        }

    @torch.no_grad()
    def load_tensors(self, groups: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Copy a checkpoint's tensors in.

        Args:
            groups: What `tensors` returned when the checkpoint was written.

        Raises:
            CheckpointError: Names or shapes are not those of the model.
        """
        targets = {"model": _model_tensors(self.model), "ema": self.ema.state_dict()}
        for stem, own in targets.items():
            _require_same(stem, own, groups[stem])
            for name, tensor in own.items():
                tensor.copy_(parted_like(groups[stem][name], tensor))
        names = dict(self.model.named_parameters())
        for entry, value in groups["optimizer"].items():
            key, _, name = entry.partition(".")
            if name not in names:
                raise CheckpointError(
                    f"The checkpoint's optimizer knows `{name}`, which the model lacks."
                )
            if value.numel() != 1 and value.shape != names[name].shape:
                raise CheckpointError(
                    f"`{entry}` is {tuple(value.shape)} in the checkpoint's optimizer, but the "
                    f"model's parameter is {tuple(names[name].shape)}."
                )
            self.optimizer.state[names[name]][key] = parted_like(value, names[name])


def _model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers by name; tied tensors once, as safetensors wants it."""
    persistent = model.state_dict(keep_vars=True).keys()
    named = dict(model.named_parameters()) | dict(model.named_buffers())
    return {name: tensor for name, tensor in named.items() if name in persistent}


def _require_same(stem: str, own: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    for name in sorted(own.keys() | saved.keys()):
        here = tuple(own[name].shape) if name in own else "absent"
        there = tuple(saved[name].shape) if name in saved else "absent"
        if here != there:
            raise CheckpointError(
                f"`{name}` is {there} in the checkpoint's {stem}, but {here} in the recipe's "
                "model. Resume with the recipe that wrote it, or train into another `output_dir`."
            )
