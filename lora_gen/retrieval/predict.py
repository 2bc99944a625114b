"""How good an adapter is, told from its weights: an interval, or "unknown" with the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lora_gen.adapter.adapter import Adapter
from lora_gen.models.adapter_encoder import AdapterEncoder, ModuleSet
from lora_gen.models.quality import spread
from lora_gen.retrieval.encoder import WeightEncoder
from lora_gen.retrieval.facts import FACTS, SHOWN
from lora_gen.retrieval.features import NUM_SHAPE_FEATURES
from lora_gen.retrieval.vectors import Vector

DOUBTFUL_FIT = -2.3
"""Of 146 adapters of all recipes 5% lie below it, and of the same adapters turned into another
base's coordinates more than half (AUROC 0.94)."""


GENERATED = (
    "it was generated, and this encoder's intervals were not calibrated for that. Try it on a few "
    "inputs instead."
)
_ASKED_OTHERWISE = (
    "it was generated from more, or from other, than one description, and the intervals are "
    "calibrated for descriptions. Try it on a few inputs instead."
)
_CALIBRATED = {"prompts": [], "examples": [], "guidance_scale": 1.0, "targets": "all-linear"}
"""What a generator's record says of adapters like those of the calibration."""


@dataclass(frozen=True, kw_only=True)
class Fact:
    """What the weights suggest about an adapter's training."""

    name: str
    """The question, one of `lora_gen.retrieval.facts.SHOWN`."""
    answer: str
    """The likeliest answer."""
    probability: float
    """Of this answer, as the encoder thinks; its report says how often it is right."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """Predicted accuracy of base + adapter on the adapter's own task, relative to its training."""

    known: bool
    """Whether the adapter resembles those the prediction was calibrated on; without that, the
    numbers are None."""
    reason: str
    """Why it is not known; empty where it is."""
    accuracy: float | None
    """Mean of the ensemble, 0 to 1."""
    low: float | None
    """Lower end of the calibrated interval."""
    high: float | None
    """Upper end of the calibrated interval."""
    distance: float
    """Mahalanobis distance from the adapters of the training."""
    limit: float
    """Distance up to which 99% of adapters kept back from training lie."""

    base_fit: float | None = None
    """How much of the weights lies in the directions that the base uses, in standard deviations
    from the training's mean; below `DOUBTFUL_FIT` the adapter may be another base's."""
    facts: tuple[Fact, ...] = ()
    """What else the weights suggest; nothing where the adapter is not known."""

    def to_dict(self) -> dict[str, Any]:
        """The score as JSON data."""
        return asdict(self)


@torch.no_grad()
def score_adapter(adapter: Adapter, encoder: WeightEncoder, *, text: Vector | None = None) -> Score:
    """What the weights alone say of an adapter's quality; the base is not run.

    Of generated adapters the intervals hold too few, and an `Adapter` does not say that it is one:
    use `score_generated`.

    Args:
        adapter: The adapter; it names its base.
        encoder: Trained and calibrated.
        text: The encoder's vector of what the adapter should do; an adapter that does something
            else, however well, is no good for that.

    Raises:
        AdapterValueError: The adapter has no effect, or values that are not finite.
    """
    ensemble, modules = encoder.model.quality, encoder.modules(encoder.features(adapter))
    summary_BS = encoder.model.summary(modules)
    alone = encoder.model.quality_input(summary_BS, modules)
    distance, limit = float(ensemble.distance(alone)), float(ensemble.limit)
    fit = _base_fit(encoder.model, alone)
    reason = _unknown(adapter, encoder, distance, limit)
    if reason:
        return _nothing(reason, distance=distance, limit=limit, base_fit=fit)
    if text is None:
        quality, unit = ensemble(alone), ensemble.reach[0]
    else:
        quality, unit = _described(encoder, modules, summary_BS, text)
    middle = float(quality.mean())
    reach = float(unit * spread(quality))
    return Score(
        known=True,
        reason="",
        accuracy=middle,
        low=max(0.0, middle - reach),
        high=min(1.0, middle + reach),
        distance=distance,
        limit=limit,
        base_fit=fit,
        facts=_facts(encoder.model, alone),
    )


@torch.no_grad()
def score_generated(
    adapter: Adapter,
    encoder: WeightEncoder,
    *,
    text: Vector | None,
    record: Mapping[str, Any] | None = None,
) -> Score:
    """What weights and description say of a generated adapter's quality; the base is not run.

    Args:
        adapter: The adapter; it names its base.
        encoder: Calibrated for generated adapters, or nothing is known.
        text: The encoder's vector of the description it was generated from.
        record: How it was generated, as far as that is known.

    Raises:
        AdapterValueError: The adapter has no effect, or values that are not finite.
    """
    model, quality = encoder.model, encoder.generated
    modules = encoder.modules(encoder.features(adapter))
    summary_BS = model.summary(modules)
    fit = _base_fit(model, model.quality_input(summary_BS, modules))
    if quality is None or text is None:
        reason = GENERATED if quality is None else _ASKED_OTHERWISE
        return _nothing(reason, distance=0.0, limit=0.0, base_fit=fit)
    vector_BE, text_BE = model.embed(modules, summary_BS), torch.from_numpy(text)[None]
    told_BS = model.quality_input(summary_BS, modules, (vector_BE * text_BE).sum(1))
    input_BF = quality.inputs(told_BS, text_BE, vector_BE)
    distance, limit = float(quality.distance(input_BF)), float(quality.limit)
    reason = _unknown(adapter, encoder, distance, limit)
    if any((record or {}).get(name, value) != value for name, value in _CALIBRATED.items()):
        reason = reason or _ASKED_OTHERWISE
    if adapter.max_rank > int(quality.max_rank):
        reason = reason or (
            f"its rank is {adapter.max_rank}, and the intervals were calibrated on generated "
            f"adapters of rank {int(quality.max_rank)} at most"
        )
    if reason:
        return _nothing(reason, distance=distance, limit=limit, base_fit=fit)
    predicted_B = quality.predict(input_BF)
    low_B, high_B = quality.interval(predicted_B)
    return Score(
        known=True,
        reason="",
        accuracy=float(predicted_B),
        low=float(low_B),
        high=float(high_B),
        distance=distance,
        limit=limit,
        base_fit=fit,
    )


def _nothing(reason: str, *, distance: float, limit: float, base_fit: float) -> Score:
    return Score(
        known=False,
        reason=reason,
        accuracy=None,
        low=None,
        high=None,
        distance=distance,
        limit=limit,
        base_fit=base_fit,
    )


def _base_fit(model: AdapterEncoder, alone: Tensor) -> float:
    """See `Score.base_fit`."""
    place = model.config.embed_dim + NUM_SHAPE_FEATURES - 2
    return float((alone[0, place] - model.quality.mean[place]) / model.quality.std[place])


def withheld(score: Score, reason: str) -> Score:
    """The score without its numbers, for an adapter that they were not calibrated for."""
    return replace(score, known=False, reason=reason, accuracy=None, low=None, high=None, facts=())


@torch.no_grad()
def rank_candidates(
    adapters: Sequence[Adapter], encoder: WeightEncoder, text: Vector
) -> dict[str, list[int]]:
    """Positions of the adapters, the best first: by `agreement` with a text and by `quality`.

    No example is needed and the base is not run. Quality is what the ensemble expects of an adapter
    that should do what the text says; there is no gate, since candidates are only compared.

    Args:
        adapters: Candidates for one request.
        encoder: Trained and calibrated.
        text: The encoder's vector of the request.
    """
    model, agreement, quality = encoder.model, [], []
    for adapter in adapters:
        modules = encoder.modules(encoder.features(adapter))
        summary_BS = model.summary(modules)
        agreement.append(float(model.embed(modules, summary_BS) @ torch.from_numpy(text)))
        quality.append(float(_described(encoder, modules, summary_BS, text)[0].mean()))
    return {
        "agreement": sorted(range(len(adapters)), key=lambda i: -agreement[i]),
        "quality": sorted(range(len(adapters)), key=lambda i: -quality[i]),
    }


def _described(
    encoder: WeightEncoder, modules: ModuleSet, summary_BS: Tensor, text: Vector
) -> tuple[Tensor, Tensor]:
    """(what the members say of an adapter that should do what a text says, reach)."""
    model, text_BE = encoder.model, torch.from_numpy(text)[None]
    vector_BE = model.embed(modules, summary_BS)
    if encoder.described is None:
        told_BS = model.quality_input(summary_BS, modules, (vector_BE * text_BE).sum(1))
        return model.quality(told_BS), model.quality.reach[1]
    alone_BS = model.quality_input(summary_BS, modules)
    return encoder.described(alone_BS, vector_BE, text_BE), encoder.described.reach[0]


def _facts(model: AdapterEncoder, alone: Tensor) -> tuple[Fact, ...]:
    """Answers to the questions of `SHOWN` for one adapter."""
    logits, answers = model.answer(alone)[0], []
    if not len(logits):
        return ()
    sizes = [len(options) for options in FACTS.values()]
    for (name, options), own in zip(FACTS.items(), torch.split(logits, sizes), strict=True):
        share = own.softmax(0)
        best = int(share.argmax())
        if name in SHOWN:
            answers.append(Fact(name=name, answer=options[best], probability=float(share[best])))
    return tuple(answers)


def _unknown(adapter: Adapter, encoder: WeightEncoder, distance: float, limit: float) -> str:
    """Why nothing can be said about an adapter; empty where something can."""
    if adapter.base not in encoder.trained_bases:
        bases = ", ".join(encoder.trained_bases) or "none"
        return f"its base is {adapter.base}, and the encoder learned from adapters of {bases}"
    if not limit or not bool(torch.isfinite(encoder.model.quality.reach).all()):
        return "the encoder was not calibrated"
    if distance > limit:
        return "its weights are unlike those of every adapter that the encoder learned from"
    return ""
