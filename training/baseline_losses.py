"""What baselines learn from the zoo's weights: plain functions of predictions and targets.

Shapes: D + 1 values of a token, the last of which is its size; a mask is 1 where a value counts.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lora_gen.adapter.stacked import StackedFactors
from lora_gen.conditioning.condition import Condition
from lora_gen.models.baselines.autoencoder import SlotAutoencoder
from lora_gen.models.baselines.cvae import kl_divergence
from lora_gen.models.baselines.latent_diffusion import TRAIN_STEPS, LatentDiffusion


def masked_mean(errors_BND: Tensor, mask_ND: Tensor) -> Tensor:
    """Mean over values that count."""
    return (errors_BND * mask_ND).sum() / (mask_ND.sum() * len(errors_BND))


def delta_loss(own: StackedFactors, known: StackedFactors) -> Tensor:
    """Squared error of delta weights over their squared norm, mean over modules and adapters.

    ||B A - B' A'||^2 = <B A, B A> - 2 <B A, B' A'> + <B' A', B' A'>, each from products of rank by
    rank, so no delta weight is built; invariant under the gauge of either side.
    """
    errors = []
    for name, (a, b) in own.items():
        a2, b2 = known[name]
        size_B = _inner(a2, b2, a2, b2)
        error_B = _inner(a, b, a, b) - 2 * _inner(a, b, a2, b2) + size_B
        errors.append(error_B / size_B.clamp_min(1e-12))
    return torch.stack(errors).mean()


def _inner(a_BRI: Tensor, b_BOR: Tensor, a2_BRI: Tensor, b2_BOR: Tensor) -> Tensor:
    """<B A, B' A'> for each adapter, (B,)."""
    return ((b_BOR.mT @ b2_BOR) * (a_BRI @ a2_BRI.mT)).sum((-2, -1))


def autoencoder_losses(
    autoencoder: SlotAutoencoder, tokens_BND: Tensor, generator: torch.Generator
) -> dict[str, Tensor]:
    """Direction, size and divergence of reconstructed tokens.

    LoRAGen's terms on canonical factors: 1 - cosine of each slice, and the spectrum of the delta
    weight, which in this gauge is the product of the sizes of a component's slices.
    """
    mean_BNZ, log_variance_BNZ = autoencoder.encode(tokens_BND)
    noise_BNZ = torch.randn(mean_BNZ.shape, generator=generator, device=mean_BNZ.device)
    found_BND = autoencoder.decode(mean_BNZ + (0.5 * log_variance_BNZ).exp() * noise_BNZ)
    cosine = nn.functional.cosine_similarity(found_BND[..., :-1], tokens_BND[..., :-1], dim=-1)
    size = (found_BND[..., -1] - tokens_BND[..., -1]).abs().mean()
    divergence = kl_divergence(mean_BNZ.flatten(0, 1), log_variance_BNZ.flatten(0, 1))
    # The direction's length is free under the cosine; decoding multiplies it by the size.
    length = (found_BND[..., :-1].square().mean(-1) - 1).square().mean()
    return {
        "direction": (1 - cosine).mean(),
        "size": size,
        "length": 0.1 * length,
        "kl": 1e-6 * divergence,
    }


def velocity_loss(
    network: LatentDiffusion, tokens_BND: Tensor, condition: Condition, generator: torch.Generator
) -> Tensor:
    """Squared error of the velocity at random steps; the autoencoder is not changed."""
    with torch.no_grad():
        latent_BNZ = network.latents(tokens_BND)
    device = latent_BNZ.device
    step_B = torch.randint(TRAIN_STEPS, (len(latent_BNZ),), generator=generator, device=device)
    noise_BNZ = torch.randn(latent_BNZ.shape, generator=generator, device=device)
    noisy_BNZ = network.noise_scheduler.add_noise(latent_BNZ, noise_BNZ, step_B)
    wanted_BNZ = network.noise_scheduler.get_velocity(latent_BNZ, noise_BNZ, step_B)
    return nn.functional.mse_loss(network(noisy_BNZ, step_B, condition), wanted_BNZ)
