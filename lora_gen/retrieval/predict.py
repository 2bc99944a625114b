"""How good an adapter is, told from its weights: an interval, or "unknown" with the reason."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from lora_gen.adapter.adapter import Adapter
from lora_gen.models.quality import spread
from lora_gen.retrieval.encoder import WeightEncoder
from lora_gen.retrieval.features import module_features


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

    def to_dict(self) -> dict[str, Any]:
        """The score as JSON data."""
        return asdict(self)


@torch.no_grad()
def score_adapter(adapter: Adapter, encoder: WeightEncoder) -> Score:
    """What the weights alone say of an adapter's quality; the base is not run.

    Args:
        adapter: The adapter; it names its base.
        encoder: Trained and calibrated.

    Raises:
        AdapterValueError: The adapter has no effect, or values that are not finite.
    """
    ensemble, modules = encoder.model.quality, encoder.modules(module_features(adapter))
    found = encoder.model.quality_input(encoder.model.summary(modules), modules)
    distance, limit = float(ensemble.distance(found)), float(ensemble.limit)
    reason = _unknown(adapter, encoder, distance, limit)
    if reason:
        none = {"accuracy": None, "low": None, "high": None}
        return Score(known=False, reason=reason, distance=distance, limit=limit, **none)
    quality = ensemble(found)
    middle = float(quality.mean())
    reach = float(ensemble.reach * spread(quality))
    return Score(
        known=True,
        reason="",
        accuracy=middle,
        low=max(0.0, middle - reach),
        high=min(1.0, middle + reach),
        distance=distance,
        limit=limit,
    )


def _unknown(adapter: Adapter, encoder: WeightEncoder, distance: float, limit: float) -> str:
    """Why nothing can be said about an adapter; empty where something can."""
    if adapter.base not in encoder.trained_bases:
        bases = ", ".join(encoder.trained_bases) or "none"
        return f"its base is {adapter.base}, and the encoder learned from adapters of {bases}"
    if not limit or not bool(torch.isfinite(encoder.model.quality.reach)):
        return "the encoder was not calibrated"
    if distance > limit:
        return "its weights are unlike those of every adapter that the encoder learned from"
    return ""
