"""What a UNet predicts with many adapters at once, and how far it is from what it should."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lora_gen.adapter.stacked import StackedFactors, stacked_adapters
from lora_gen.errors import BaseModelError


@dataclass(frozen=True, kw_only=True)
class Noised:
    """Noisy latents with what a UNet should predict for them; (N, C, h, w) but for the times."""

    latents: Tensor
    timesteps: Tensor
    """(N,) int64."""
    target: Tensor


def noised(
    noise_scheduler: Any,
    latents_NCHW: Tensor,
    generator: torch.Generator,
    *,
    timestep_power: float = 1.0,
) -> Noised:
    """Latents at timesteps that are spread evenly over the pictures, shifted by a random amount.

    The loss depends strongly on the timestep: spread so, its mean over few pictures varies little.

    Args:
        noise_scheduler: Noise levels and prediction type of the base.
        latents_NCHW: Clean latents.
        generator: Draws noise and timesteps, on the latents' device.
        timestep_power: Timesteps are T u^power with u uniform: below 1, noisier ones come more.

    Raises:
        BaseModelError: The noise scheduler's prediction type is not supported.
    """
    count, device = latents_NCHW.shape[0], latents_NCHW.device
    noise = torch.randn(latents_NCHW.shape, generator=generator, device=device)
    order_N = torch.randperm(count, generator=generator, device=device)
    shift = torch.rand((), generator=generator, device=device)
    steps = noise_scheduler.config.num_train_timesteps
    evenly_N = (order_N + shift) / count
    timesteps = (evenly_N**timestep_power * steps).long().clamp_max(steps - 1)
    kind = noise_scheduler.config.prediction_type
    if kind not in ("epsilon", "v_prediction"):
        raise BaseModelError(
            f"The base's noise scheduler predicts `{kind}`, but `epsilon` and `v_prediction` are "
            "supported. Name another base."
        )
    target = noise
    if kind == "v_prediction":
        target = noise_scheduler.get_velocity(latents_NCHW, noise, timesteps)
    noisy = noise_scheduler.add_noise(latents_NCHW, noise, timesteps)
    return Noised(latents=noisy, timesteps=timesteps, target=target)


def predicted(
    unet: Any, noisy: Noised, states_NKC: Tensor, factors: StackedFactors | None = None
) -> Tensor:
    """The UNet's prediction, (N, C, h, w) float32.

    Args:
        unet: The frozen base.
        noisy: Its inputs, adapter-major.
        states_NKC: States of the captions.
        factors: Stack of adapters under the UNet's own module paths.
    """
    with stacked_adapters(unet, factors) if factors else nullcontext():
        found: Tensor = unet(noisy.latents, noisy.timesteps, encoder_hidden_states=states_NKC)[0]
    return found.float()


def picture_losses(
    unet: Any,
    noisy: Noised,
    states_NKC: Tensor,
    factors: StackedFactors | None = None,
    *,
    teacher: StackedFactors | None = None,
) -> Tensor:
    """Squared error of each picture's prediction, (N,).

    Args:
        unet: The frozen base.
        noisy: Its inputs, adapter-major.
        states_NKC: States of the captions.
        factors: Stack of adapters.
        teacher: Compare with the prediction under these adapters instead of the truth.
    """
    target = noisy.target
    if teacher is not None:
        with torch.no_grad():
            target = predicted(unet, noisy, states_NKC, teacher)
    error = predicted(unet, noisy, states_NKC, factors) - target
    return error.square().flatten(1).mean(1)
