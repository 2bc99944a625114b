"""The two objectives: flow matching in weight space, behavior through the frozen base."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, permutations

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
    return grouped_label_losses(base, factors, lines, adapters).mean()


def grouped_label_losses(
    base: nn.Module, factors: StackedFactors, lines: Lines, groups: int
) -> Tensor:
    """Cross entropy of the right answers, the mean over the answer tokens of each group, (groups,).

    Args:
        base: The frozen base.
        factors: Stack of adapters.
        lines: Adapter-major lines, the same number for each.
        groups: Equal runs of lines to average over: the adapters, or parts of their lines.
    """
    with stacked_adapters(base, factors):
        logits = base(input_ids=lines.input_ids, use_cache=False).logits[:, :-1]
    targets = lines.labels[:, 1:]
    chosen = targets != IGNORE
    losses = nn.functional.cross_entropy(logits[chosen].float(), targets[chosen], reduction="none")
    return _mean_of_groups(losses, chosen, groups)


def matching_loss(losses_AKS: Tensor) -> Tensor:
    """Mean loss when every candidate answers one reading and every reading has its candidate.

    The cheapest one-to-one matching is chosen for each request and is constant for the gradient, so
    candidates need not know beforehand which reading is theirs: a difference that their noise makes
    by chance grows (multiple choice learning: Guzman-Rivera et al., NeurIPS 2012; balanced, since
    plain winner-takes-all lets candidates starve).

    Args:
        losses_AKS: Loss of each of K candidates on each of K places for readings, for A requests;
            a reading may hold several places.
    """
    count = losses_AKS.shape[1]
    orders = torch.tensor(list(permutations(range(count))), device=losses_AKS.device)
    rows = torch.arange(count, device=losses_AKS.device).expand_as(orders)
    costs = losses_AKS.detach()[:, rows, orders].sum(-1)
    best = orders[costs.argmin(1)]
    return losses_AKS.gather(2, best[..., None]).mean()


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
    return _mean_of_groups(losses, chosen, adapters).mean()


def _mean_of_groups(losses: Tensor, chosen: Tensor, groups: int) -> Tensor:
    """Every group counts the same, however long its answers are; (groups,)."""
    owner = torch.arange(chosen.shape[0], device=chosen.device) // (chosen.shape[0] // groups)
    owner = owner[:, None].expand_as(chosen)[chosen]
    sums = torch.zeros(groups, device=losses.device).index_add(0, owner, losses)
    counts = torch.zeros(groups, device=losses.device).index_add(0, owner, torch.ones_like(losses))
    return sums / counts.clamp_min(1)
