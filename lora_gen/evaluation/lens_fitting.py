"""Train lenses from labeled sentences: many at once on one frozen base, by contrast.

Supervised contrastive learning (Khosla et al., 2020): among the sentences of a batch, those of the
same value are drawn together and the others pushed apart.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lora_gen.adapter.adapter import Adapter, LoraPair
from lora_gen.adapter.base_model import BaseModelSpec, select_targets
from lora_gen.errors import ConfigError
from lora_gen.evaluation.embedding import Embedder, lens_targets

Example = tuple[str, str]
"""(sentence, value)."""

_WINDOW = 2
"""Batches are drawn among sentences of like length, this many times a batch: less is padding."""


@dataclass(frozen=True, kw_only=True)
class LensFitConfig:
    """How a lens is trained from labeled sentences."""

    rank: int = 4
    steps: int = 18
    batch: int = 24
    """Sentences of each lens in a step."""

    lr: float = 1e-2
    temperature: float = 0.1
    anchor_share: float = 0.3
    """Share of a batch that is anchors, where there are some."""


def contrastive_loss(vectors_BPE: Tensor, labels_BP: Tensor, temperature: float) -> Tensor:
    """Supervised contrastive loss of each lens, (B,).

    Args:
        vectors_BPE: Unit vectors of P sentences under B lenses.
        labels_BP: Number of each one's value.
        temperature: Divides the cosines.
    """
    similarity_BPP = vectors_BPE @ vectors_BPE.mT / temperature
    self_PP = torch.eye(labels_BP.shape[1], dtype=torch.bool, device=labels_BP.device)
    log_share_BPP = similarity_BPP.masked_fill(self_PP, -1e9).log_softmax(-1)
    same_BPP = (labels_BP[:, :, None] == labels_BP[:, None]) & ~self_PP
    counts_BP = same_BPP.sum(-1)
    loss_BP = -(log_share_BPP * same_BPP).sum(-1) / counts_BP.clamp_min(1)
    has_BP = counts_BP > 0
    return (loss_BP * has_BP).sum(-1) / has_BP.sum(-1).clamp_min(1)


def initial_factors(
    spec: BaseModelSpec, seeds: Sequence[int], rank: int
) -> dict[str, tuple[Tensor, Tensor]]:
    """PEFT's default start (A uniform by Kaiming, B zero), one seed for each lens."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    factors = {}
    for name in select_targets(spec, lens_targets(spec)):
        shape = spec.modules[name]
        bound = 1 / math.sqrt(shape.in_features)
        size = (rank, shape.in_features)
        a_BRI = torch.stack([(torch.rand(size, generator=g) * 2 - 1) * bound for g in generators])
        factors[name] = (a_BRI, torch.zeros(len(seeds), shape.out_features, rank))
    return factors


def fit_lenses(
    embedder: Embedder,
    data: Sequence[Sequence[Example]],
    config: LensFitConfig,
    *,
    seeds: Sequence[int],
    start: dict[str, tuple[Tensor, Tensor]] | None = None,
    anchors: Sequence[Sequence[Example]] = (),
) -> dict[str, tuple[Tensor, Tensor]]:
    """Factors of one lens for each list of examples, trained together.

    Args:
        embedder: The frozen base.
        data: Labeled sentences of each lens.
        config: How.
        seeds: One for each lens.
        start: Factors to go on from, instead of `initial_factors`.
        anchors: For each lens, labeled texts that hold nothing but the value, such as the word that
            realizes it; perhaps none. The base knows which of them are alike, new ones too, so a
            sentence that lies with its anchor lies well.

    Raises:
        ConfigError: A lens has no two sentences of one value, or only one value; or `start` has
            other modules than a lens.
    """
    for examples in data:
        _require_contrast(examples)
    found = start or initial_factors(embedder.spec, seeds, config.rank)
    _require_lens(found, embedder.spec)
    texts = list(dict.fromkeys(text for part in (*data, *anchors) for text, _ in part))
    states = dict(zip(texts, embedder.read(texts), strict=True))
    factors = {name: (a.clone(), b.clone()) for name, (a, b) in found.items()}
    parameters = [p.requires_grad_() for pair in factors.values() for p in pair]
    optimizer = torch.optim.Adam(parameters, lr=config.lr)
    rng = random.Random(f"{list(seeds)}")
    ordered = [sorted(examples, key=lambda one: len(one[0])) for examples in data]
    for step in range(config.steps):
        rate = min(1.0, (step + 1) / 5) * (1 - 0.9 * step / config.steps)
        optimizer.param_groups[0]["lr"] = config.lr * rate
        place = rng.random()
        batches = [
            _batch(examples, known, place, config, rng)
            for examples, known in zip(ordered, anchors or [()] * len(data), strict=True)
        ]
        read = [states[text] for batch in batches for text, _ in batch]
        vectors = embedder.vectors_from(read, factors)
        labels_BP = torch.stack([_numbers(batch) for batch in batches])
        vectors_BPE = vectors.view(*labels_BP.shape, -1)
        loss = contrastive_loss(vectors_BPE, labels_BP, config.temperature).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return {name: (a.detach(), b.detach()) for name, (a, b) in factors.items()}


def lens_adapter(
    factors: dict[str, tuple[Tensor, Tensor]], index: int, spec: BaseModelSpec
) -> Adapter:
    """One lens of a stack as an adapter of its base."""
    pairs = {name: LoraPair(lora_a=a[index], lora_b=b[index]) for name, (a, b) in factors.items()}
    return Adapter(pairs=pairs, base=spec.id, task_type="FEATURE_EXTRACTION")


def _batch(
    ordered: Sequence[Example],
    anchors: Sequence[Example],
    place: float,
    config: LensFitConfig,
    rng: random.Random,
) -> list[Example]:
    """Sentences of like length, and anchors where there are some."""
    count = round(config.anchor_share * config.batch) if anchors else 0
    found = _window(ordered, place, config.batch - count, rng)
    return found + (rng.choices(anchors, k=count) if count else [])


def _window(
    ordered: Sequence[Example], place: float, count: int, rng: random.Random
) -> list[Example]:
    """A batch among neighbors in length; small sets are drawn from whole, with repeats."""
    size = min(len(ordered), _WINDOW * count)
    first = round(place * (len(ordered) - size))
    near = ordered[first : first + size]
    return rng.sample(near, count) if size >= count else rng.choices(near, k=count)


def _numbers(batch: Sequence[Example]) -> Tensor:
    known = {value: number for number, value in enumerate(dict.fromkeys(v for _, v in batch))}
    return torch.tensor([known[value] for _, value in batch])


def _require_lens(factors: dict[str, tuple[Tensor, Tensor]], spec: BaseModelSpec) -> None:
    if other := sorted(set(factors) - set(select_targets(spec, lens_targets(spec)))):
        raise ConfigError(
            f"`start` adapts `{other[0]}`, but a lens adapts only {', '.join(lens_targets(spec))}. "
            "Start from a lens, or from nothing."
        )


def _require_contrast(examples: Sequence[Example]) -> None:
    values = [value for _, value in examples]
    if len(set(values)) < 2 or len(set(values)) == len(values):
        raise ConfigError(
            f"`examples` hold {len(values)} sentences of {len(set(values))} values; a lens needs "
            "at least two values, and two sentences of one of them. Add examples."
        )
