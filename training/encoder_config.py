"""What a recipe says about the encoder of weights."""

from __future__ import annotations

from dataclasses import dataclass, field

from lora_gen.retrieval.corpus import CorpusConfig
from training.config import require


@dataclass(frozen=True, kw_only=True)
class EncoderModelConfig:
    """Size of the encoder; see `lora_gen.models.adapter_encoder.AdapterEncoder`."""

    depth_bins: int = 4
    """Stretches of depth that a read-out tells apart."""
    token_dim: int = 256
    """Main directions of the features that are kept for each role."""
    hidden_dim: int = 128
    """Width of the set transformer."""
    num_layers: int = 2
    """Its layers."""
    num_heads: int = 4
    """Its attention heads."""
    embed_dim: int = 256
    """Width of the vectors that are compared."""
    dropout: float = 0.2
    """Of module features and of texts."""


@dataclass(frozen=True, kw_only=True)
class EncoderObjectiveConfig:
    """What the encoder learns."""

    wordings_per_entry: int = 2
    """Descriptions of an adapter in a batch; all of them are its positives."""
    module_dropout: float = 0.15
    """Share of an adapter's modules that a step hides."""
    content_noise: float = 0.1
    """Gaussian noise on projected features, in their standard deviations."""
    ridge: float = 2.0
    """Penalty of the closed-form read-out that training starts from."""
    quality_weight: float = 1.0
    """Weight of the quality heads, which do not reach the trunk."""

    def __post_init__(self) -> None:
        require(
            self.wordings_per_entry >= 1,
            f"`task.objective.wordings_per_entry` is {self.wordings_per_entry}, but must be at "
            "least 1.",
        )
        for name in ("module_dropout", "content_noise", "ridge", "quality_weight"):
            value = getattr(self, name)
            require(value >= 0, f"`task.objective.{name}` is {value}, but must not be negative.")


@dataclass(frozen=True, kw_only=True)
class EncoderTaskConfig:
    """The encoder of weights and what it is trained on."""

    zoo: str
    """Folder of the zoo."""
    cache: str = "build/cache"
    """Folder of the features, computed once."""
    splits: tuple[str, ...] = ("seen",)
    """Splits to learn from; every other split stays unseen."""
    validation_split: str = "unseen_composition"
    """Split whose descriptions look for their adapters while training."""
    calibration_share: float = 0.15
    """Share of the families of `splits` that only calibrates quality and support."""
    coverage: float = 0.9
    """What share of true accuracies the predicted intervals should hold."""
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    """What is taken of the zoo."""
    model: EncoderModelConfig = field(default_factory=EncoderModelConfig)
    """Sizes."""
    objective: EncoderObjectiveConfig = field(default_factory=EncoderObjectiveConfig)
    """Losses."""

    def __post_init__(self) -> None:
        require(
            0.0 < self.calibration_share < 1.0,
            f"`task.calibration_share` is {self.calibration_share}, but must lie between 0 and 1.",
        )
        require(
            0.0 < self.coverage < 1.0,
            f"`task.coverage` is {self.coverage}, but must lie between 0 and 1.",
        )
