"""What a recipe says about the encoder of weights."""

from __future__ import annotations

from dataclasses import dataclass, field

from lora_gen.retrieval.corpus import CorpusConfig
from lora_gen.weight_space.augment import AugmentConfig
from training.config import require


@dataclass(frozen=True, kw_only=True)
class EncoderModelConfig:
    """Size of the encoder; see `lora_gen.models.adapter_encoder.AdapterEncoder`."""

    depth_bins: int = 4
    """Stretches of depth that a read-out tells apart."""
    token_dim: int = 80
    """Main directions of the features that are kept for each slot."""
    hidden_dim: int = 64
    """Width of the set transformer."""
    num_layers: int = 1
    """Its layers."""
    num_heads: int = 4
    """Its attention heads."""
    embed_dim: int = 128
    """Width of the vectors that are compared."""
    shown_share: float = 0.0
    """Share of a vector that says what a task is to the base itself, learned from solved examples
    (`task.behaviors`); zero for descriptions alone."""
    text_hidden: int = 128
    """Width of the side that reads texts."""
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
    recipe_weight: float = 0.1
    """Weight of the recipe's reversed gradient: what rank and modules an adapter has should not
    show in its vector."""
    quality_steps: int = 250
    """Steps of the quality heads, which are fitted to the finished trunk."""

    def __post_init__(self) -> None:
        require(
            self.wordings_per_entry >= 1,
            f"`task.objective.wordings_per_entry` is {self.wordings_per_entry}, but must be at "
            "least 1.",
        )
        for name in ("module_dropout", "content_noise", "ridge", "recipe_weight"):
            value = getattr(self, name)
            require(value >= 0, f"`task.objective.{name}` is {value}, but must not be negative.")


@dataclass(frozen=True, kw_only=True)
class EncoderTaskConfig:
    """The encoder of weights and what it is trained on."""

    zoos: tuple[str, ...]
    """Folders of the zoos."""
    base: str = ""
    """Base whose own directions modules are seen through; empty for hashed frames."""
    texts: str = ""
    """JSONL of `task`, `split` and `descriptions` that go before those of the entries. Its practice
    tasks have no adapters and teach only what wordings of one task have in common."""
    behaviors: str = ""
    """JSONL of tasks with solved `examples`, for `model.shown_share`. Of tasks in other splits than
    these and `practice` nothing is read."""
    cache: str = "build/cache"
    """Folder of the features, computed once."""
    splits: tuple[str, ...] = ("seen",)
    """Splits to learn from; every other split stays unseen."""
    validation_tasks: str = ""
    """JSON list of tasks that are left out of training and looked for while training: the place to
    choose settings. Empty for the run whose encoder is kept, which learns from all."""
    min_accuracy: float = 0.3
    """Adapters that do their task less well teach quality alone, not what a task looks like."""
    calibration_share: float = 0.2
    """Share of recipes (of tasks, where recipes are unknown) that only calibrates; as many again
    are kept for tests."""
    coverage: float = 0.9
    """What share of true accuracies the predicted intervals should hold."""
    augment: AugmentConfig | None = None
    """Changes of one more copy of each adapter, from which vectors are learned beside it; none by
    default."""
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    """What is taken of the zoo."""
    model: EncoderModelConfig = field(default_factory=EncoderModelConfig)
    """Sizes."""
    objective: EncoderObjectiveConfig = field(default_factory=EncoderObjectiveConfig)
    """Losses."""

    def __post_init__(self) -> None:
        require(
            0.0 < self.calibration_share < 0.5,
            f"`task.calibration_share` is {self.calibration_share}, but must lie between 0 and "
            "0.5.",
        )
        require(
            0.0 <= self.model.shown_share < 1.0,
            f"`task.model.shown_share` is {self.model.shown_share}, but must be at least 0 and "
            "below 1.",
        )
        require(
            bool(self.behaviors) == bool(self.model.shown_share),
            "`task.behaviors` and `task.model.shown_share` need each other. Set both or none.",
        )
        require(
            0.0 < self.coverage < 1.0,
            f"`task.coverage` is {self.coverage}, but must lie between 0 and 1.",
        )
