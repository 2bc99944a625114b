"""Weights that lie in parts on several processes (FSDP2), and what needs them whole.

A distributed tensor is made whole by all its processes together, so whatever gathers one is called
on each of them.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def is_sharded(model: nn.Module) -> bool:
    """Whether its parameters lie in parts on several processes."""
    return any(_is_part(parameter) for parameter in model.parameters())


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor; every process must ask for it."""
    return tensor.full_tensor() if _is_part(tensor) else tensor  # type: ignore[attr-defined]


def own_part(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor, in the same memory."""
    return tensor.to_local() if _is_part(tensor) else tensor  # type: ignore[attr-defined]


def parted_like(value: Tensor, like: Tensor) -> Tensor:
    """A whole tensor in parts as `like` has them, on its device; every process has `value`."""
    if not _is_part(like) or value.shape != like.shape:
        return value.to(like.device)
    from torch.distributed.tensor import distribute_tensor

    mesh, places = like.device_mesh, like.placements  # type: ignore[attr-defined]
    return distribute_tensor(value.to(like.device), mesh, places, src_data_rank=None)


@torch.no_grad()
def fill(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy whole tensors into a model of one process."""
    named = dict(model.named_parameters()) | dict(model.named_buffers())
    for name, value in tensors.items():
        named[name].copy_(value)


def _is_part(tensor: Tensor) -> bool:
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)
