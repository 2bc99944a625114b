"""Learning more tasks without forgetting: the generator stays near its own old answers.

Nothing of the old training is needed but descriptions. For each of them the network as it was says
which adapter it would make; the new network's adapter for the same noise may not be far from that,
as a delta weight. (The output regularization of continual hypernetworks, von Oswald et al.,
arXiv 1906.00695, with the old network's own samples as the memory.)

Shapes: M remembered descriptions.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from lora_gen.adapter.base_model import BaseModelSpec
from lora_gen.adapter.stacked import StackedFactors
from lora_gen.codec.codec import AdapterCodec
from lora_gen.codec.layout import TokenLayout
from lora_gen.conditioning.condition import Condition, base_condition
from lora_gen.errors import ConfigError
from lora_gen.models.recurrent_denoiser import RecurrentDenoiser
from training.behavior_data import TextStateCache, read_behaviors
from training.objectives import predict_on_path
from training.order import derive_seed


@dataclass(frozen=True, kw_only=True)
class RememberConfig:
    """What a generator that goes on learning must keep."""

    behaviors: str
    """File with the old tasks; of these only the descriptions are read."""
    splits: tuple[str, ...] = ("seen",)
    """Splits of that file."""
    rows: int = 8
    """Old descriptions in each micro-batch."""
    weight: float = 1.0
    """Weight of the squared relative change of their adapters."""
    share: float = 1.0
    """How far from the weights before to the trained ones those lie that are saved at the end.

    Less keeps more of the old tasks and learns less of the new ones (WiSE-FT, arXiv 2109.01903).
    """

    def __post_init__(self) -> None:
        if self.rows < 1 or self.weight < 0:
            raise ConfigError(
                f"`task.remember` has rows {self.rows} and weight {self.weight}; it needs at least "
                "1 row and a weight of 0 or more."
            )
        if not 0 < self.share <= 1:
            raise ConfigError(
                f"`task.remember.share` is {self.share:g}, and must be above 0 and at most 1."
            )


class Memory:
    """The network as it was, and descriptions that it is asked again.

    Args:
        denoiser: The network before it learns more; a frozen copy is kept.
        texts: Encodes descriptions.
        spec: The base.
        config: Which descriptions, how many at once, and how much they count.
        seed: Draws them.
    """

    def __init__(
        self,
        denoiser: RecurrentDenoiser,
        texts: TextStateCache,
        spec: BaseModelSpec,
        *,
        config: RememberConfig,
        seed: int,
    ) -> None:
        self.old = deepcopy(denoiser).requires_grad_(False).train(False)
        self.texts, self.spec, self.config, self.seed = texts, spec, config, seed
        path = Path(config.behaviors)
        self.descriptions = [
            text
            for split in config.splits
            for record in read_behaviors(path, split=split)
            for text in record.descriptions
        ]

    def batch(self, index: int) -> Condition:
        """The old descriptions of micro-batch `index`."""
        rng = random.Random(derive_seed(self.seed, "remember", index))
        count = min(self.config.rows, len(self.descriptions))
        states, mask = self.texts.batch(rng.sample(self.descriptions, count))
        return Condition(
            text_states=states,
            text_mask=mask,
            base_features=base_condition(self.spec, len(states)),
        )

    @torch.no_grad()
    def averaged(self, denoiser: RecurrentDenoiser) -> RecurrentDenoiser:
        """The network `share` of the way from as it was to as it is; `denoiser` is not changed."""
        found = deepcopy(denoiser)
        before = dict(self.old.named_parameters())
        for name, parameter in found.named_parameters():
            parameter.copy_(before[name].to(parameter.device).lerp(parameter, self.config.share))
        return found

    def loss(
        self,
        denoiser: RecurrentDenoiser,
        condition: Condition,
        codec: AdapterCodec,
        levels: Sequence[float],
        generator: torch.Generator,
    ) -> Tensor:
        """Squared relative distance of new from old adapters, the mean over descriptions."""
        layout, device = codec.layout, next(denoiser.parameters()).device
        shape = (condition.batch_size, layout.num_tokens, layout.width + 1)
        noise_MND = torch.randn(shape, generator=generator, device=device)
        with torch.no_grad():
            wanted = codec.factors(_walked(self.old, condition, layout, noise_MND, levels))
        return relative_change(
            codec.factors(_walked(denoiser, condition, layout, noise_MND, levels)), wanted
        ).mean()


def relative_change(found: StackedFactors, wanted: StackedFactors) -> Tensor:
    """|delta - delta'|^2 / |delta'|^2 of whole adapters, by r x r products; (B,).

    It does not depend on the gauge of either.
    """
    squared = {name: _inner(found[name], found[name]) for name in wanted}
    crossed = {name: _inner(found[name], wanted[name]) for name in wanted}
    lengths = {name: _inner(wanted[name], wanted[name]) for name in wanted}
    total_B = _summed(lengths)
    apart_B = _summed(squared) - 2 * _summed(crossed) + total_B
    return apart_B / total_B.clamp_min(torch.finfo(torch.float32).tiny)


def _walked(
    denoiser: RecurrentDenoiser,
    condition: Condition,
    layout: TokenLayout,
    noise_MND: Tensor,
    levels: Sequence[float],
) -> Tensor:
    condition = replace(condition, latent=denoiser.latent_of(noise_MND))
    return predict_on_path(denoiser, denoiser.prototype(condition, layout), noise_MND, levels)


def _inner(left: tuple[Tensor, Tensor], right: tuple[Tensor, Tensor]) -> Tensor:
    """<B A, B' A'> for each adapter of the stacks, (B,)."""
    rows = left[0].float() @ right[0].float().mT
    columns = left[1].float().mT @ right[1].float()
    return (rows * columns).sum((1, 2))


def _summed(parts: Mapping[str, Tensor]) -> Tensor:
    return torch.stack(list(parts.values())).sum(0)
