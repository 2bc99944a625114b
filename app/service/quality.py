"""How well an adapter probably does its task, told from its weights by a trained encoder."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.service.models import Models
from lora_gen.adapter.adapter import Adapter
from lora_gen.errors import LoraGenError

if TYPE_CHECKING:
    from lora_gen.retrieval.encoder import WeightEncoder
    from lora_gen.retrieval.vectors import Vector

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
        self._last: tuple[str, Vector] | None = None
        self._lock = threading.Lock()

    @property
    def installed(self) -> bool:
        """Whether there is an encoder to ask."""
        return self._folder is not None

    def of(
        self,
        adapter: Adapter,
        text: str | None = None,
        *,
        is_generated: bool = False,
        record: Mapping[str, Any] | None = None,
    ) -> Forecast:
        """The forecast for an adapter.

        Args:
            adapter: The adapter; it names its base.
            text: What it should do, where that is known.
            is_generated: Whether a generator made it: such adapters have intervals of their own.
            record: How it was generated, where that is known.
        """
        if self._folder is None:
            return Forecast()
        from lora_gen.retrieval.predict import score_adapter, score_generated

        try:
            with self._lock:
                encoder = self._loaded(self._folder)
                vector = None if text is None else self._vector(encoder, text)
                if is_generated:
                    score = score_generated(adapter, encoder, text=vector, record=record)
                else:
                    score = score_adapter(adapter, encoder, text=vector)
        except LoraGenError as error:
            return Forecast(reason=f"not predicted: {error}")
        if not score.known:
            return Forecast(reason=f"unknown: {score.reason}")
        return Forecast(accuracy=score.accuracy, low=score.low, high=score.high, reason="")

    def _loaded(self, folder: Path) -> WeightEncoder:
        from lora_gen.retrieval.encoder import WeightEncoder

        if self._encoder is None:
            self._encoder = WeightEncoder.from_pretrained(folder)
        return self._encoder

    def _vector(self, encoder: WeightEncoder, text: str) -> Vector:
        """Of a text; all candidates of a request share theirs."""
        if self._last is None or self._last[0] != text:
            reader = self._models.text_encoder()
            self._last = text, encoder.embed_texts(reader.encode([text]), reader)[0]
        return self._last[1]
