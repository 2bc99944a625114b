"""The two objectives: flow matching in weight space, behavior through the frozen base."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from lora_gen.adapter.stacked import StackedFactors, stacked_adapters
from lora_gen.conditioning.chat import IGNORE, Lines
from lora_gen.models.recurrent_denoiser import Prototype, RecurrentDenoiser


def flow_matching_loss(
    denoiser: RecurrentDenoiser,
    prototype: Prototype,
    tokens_BND: Tensor,
    mask_ND: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Squared error of the predicted clean tokens at random noise levels, a scalar.

    The flow's error is that of the clean tokens over t^2 (v = (x_t - x_0) / t); without this
    weight, levels count evenly. Source: Lipman et al., arXiv 2210.02747.
    """
    level_B = torch.rand(tokens_BND.shape[0], generator=generator, device=tokens_BND.device)
    noise_BND = torch.randn(tokens_BND.shape, generator=generator, device=tokens_BND.device)
    level = level_B[:, None, None]
    clean_BND = denoiser.clean((1 - level) * tokens_BND + level * noise_BND, level_B, prototype)
    error = (clean_BND - tokens_BND).square() * mask_ND
    return error.sum() / (mask_ND.sum() * tokens_BND.shape[0])


def sample_on_path(
    denoiser: RecurrentDenoiser,
    prototype: Prototype,
    noise_BND: Tensor,
    *,
    steps: int,
    stop: int,
) -> Tensor:
    """Clean tokens as predicted at step `stop` of a sampler of `steps` equal steps.

    Gradients flow through that step only.
    """
    levels = torch.linspace(1, 0, steps + 1).tolist()
    return predict_on_path(denoiser, prototype, noise_BND, levels[: stop + 1])


def predict_on_path(
    denoiser: RecurrentDenoiser, prototype: Prototype, noise_BND: Tensor, levels: Sequence[float]
) -> Tensor:
    """Clean tokens as predicted at the last of `levels`; gradients flow through that step only.

    The path starts at pure noise (level 1) and takes Euler steps through the other levels without
    gradients: behavior must be trained where the sampler goes, a noised true adapter teaches
    copying.
    """
    x_BND = noise_BND
    with torch.no_grad():
        for now, after in pairwise(levels):
            clean = denoiser.clean(x_BND, _full(now, x_BND), prototype)
            x_BND = x_BND * (after / now) + clean * (1 - after / now)
    return denoiser.clean(x_BND, _full(levels[-1], x_BND), prototype)


def _full(level: float, like_BND: Tensor) -> Tensor:
    return torch.full((like_BND.shape[0],), level, device=like_BND.device)


def label_loss(base: nn.Module, factors: StackedFactors, lines: Lines, adapters: int) -> Tensor:
    """Cross entropy of the right answers under the base with each adapter; a scalar.

    The mean over adapters of each adapter's mean over its answer tokens.

    Args:
        base: The frozen base.
        factors: Stack of `adapters` adapters.
        lines: Adapter-major lines, the same number for each.
        adapters: B.
    """
    with stacked_adapters(base, factors):
        logits = base(input_ids=lines.input_ids, use_cache=False).logits[:, :-1]
    targets = lines.labels[:, 1:]
    chosen = targets != IGNORE
    losses = nn.functional.cross_entropy(logits[chosen].float(), targets[chosen], reduction="none")
    return _mean_over_adapters(losses, chosen, adapters)


def distillation_loss(
    base: nn.Module, factors: StackedFactors, teacher: StackedFactors, lines: Lines, adapters: int
) -> Tensor:
    """KL divergence from the zoo adapters' output distributions to the generated ones', a scalar.

    The mean over adapters. No label is needed: the lines only say where to compare.
    """
    chosen = lines.labels[:, 1:] != IGNORE
    with torch.no_grad(), stacked_adapters(base, teacher):
        wanted = base(input_ids=lines.input_ids, use_cache=False).logits[:, :-1][chosen]
    with stacked_adapters(base, factors):
        logits = base(input_ids=lines.input_ids, use_cache=False).logits[:, :-1][chosen]
    log_wanted, log_given = wanted.float().log_softmax(-1), logits.float().log_softmax(-1)
    losses = (log_wanted.exp() * (log_wanted - log_given)).sum(-1)
    return _mean_over_adapters(losses, chosen, adapters)


def _mean_over_adapters(losses: Tensor, chosen: Tensor, adapters: int) -> Tensor:
    """Every adapter counts the same, however long its answers are."""
    owner = torch.arange(chosen.shape[0], device=chosen.device) // (chosen.shape[0] // adapters)
    owner = owner[:, None].expand_as(chosen)[chosen]
    sums = torch.zeros(adapters, device=losses.device).index_add(0, owner, losses)
    counts = torch.zeros(adapters, device=losses.device).index_add(
        0, owner, torch.ones_like(losses)
    )
    return (sums / counts.clamp_min(1)).mean()
