"""How well an adapter probably does its task, told from its weights by a trained encoder."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from app.service.models import Models
from lora_gen.adapter.adapter import Adapter
from lora_gen.errors import LoraGenError

if TYPE_CHECKING:
    from lora_gen.retrieval.encoder import WeightEncoder
    from lora_gen.retrieval.predict import Score

NO_ENCODER = "not predicted: no quality encoder is installed"


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What the weights say of an adapter's quality, or why they say nothing."""

    accuracy: float | None = None
    """Predicted share of right answers, 0 to 1."""

    low: float | None = None
    """Lower end of the 90% interval."""

    high: float | None = None
    """Upper end of the 90% interval."""

    reason: str = NO_ENCODER
    """Why there are no numbers; empty where there are."""

    def __str__(self) -> str:
        if self.accuracy is None or self.low is None or self.high is None:
            return self.reason
        return f"{self.accuracy:.2f}, 90% interval {self.low:.2f} to {self.high:.2f}"


NOT_ASKED = Forecast()


class QualityPredictor:
    """The encoder in a folder, loaded at the first question.

    Args:
        folder: A trained adapter encoder; without one, every answer says that none is installed.
        models: Lends the text encoder.
    """

    def __init__(self, folder: Path | None, models: Models) -> None:
        found = folder is not None and (folder / "config.json").is_file()
        self._folder = folder if found else None
        self._models = models
        self._encoder: WeightEncoder | None = None
        self._lock = threading.Lock()

    @property
    def installed(self) -> bool:
        """Whether there is an encoder to ask."""
        return self._folder is not None

    def of(
        self, adapter: Adapter, text: str | None = None, *, is_generated: bool = False
    ) -> Forecast:
        """The forecast for an adapter.

        Args:
            adapter: The adapter; it names its base.
            text: What it should do, where that is known.
            is_generated: Whether a generator made it; the encoder is not calibrated for that.
        """
        if self._folder is None:
            return Forecast()
        try:
            with self._lock:
                score = self._score(self._folder, adapter, text)
        except LoraGenError as error:
            return Forecast(reason=f"not predicted: {error}")
        if is_generated and score.known:
            from lora_gen.retrieval.predict import GENERATED, withheld

            score = withheld(score, GENERATED)
        if not score.known:
            return Forecast(reason=f"unknown: {score.reason}")
        return Forecast(accuracy=score.accuracy, low=score.low, high=score.high, reason="")

    def _score(self, folder: Path, adapter: Adapter, text: str | None) -> Score:
        from lora_gen.retrieval.encoder import WeightEncoder
        from lora_gen.retrieval.predict import score_adapter

        if self._encoder is None:
            self._encoder = WeightEncoder.from_pretrained(folder)
        if text is None:
            return score_adapter(adapter, self._encoder)
        reader = self._models.text_encoder()
        vector = self._encoder.embed_texts(reader.encode([text]), reader)[0]
        return score_adapter(adapter, self._encoder, text=vector)
