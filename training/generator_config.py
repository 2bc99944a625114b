"""What a generator recipe says: data, base, network and objective."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from lora_gen.conditioning.text import DEFAULT_TEXT_ENCODER
from lora_gen.weight_space.augment import AugmentConfig
from training.config import require
from training.continual import RememberConfig


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Size of the generator's network."""

    hidden_dim: int = 256
    """Width H."""
    backbone_layers: int = 4
    """Blocks of the recurrent backbone."""
    denoiser_layers: int = 2
    """Blocks of the denoiser."""
    num_heads: int = 4
    """Heads of each cross-attention."""
    ff_multiple: int = 2
    """Width of the perceptrons over H."""
    byte_dim: int = 96
    """Width of the reader of prompts and examples."""
    latent_dim: int = 0
    """Width of what the noise of all slots has in common, by which samples can differ; 0: none."""


@dataclass(frozen=True, kw_only=True)
class ReadingsConfig:
    """What is asked where a description fits several tasks; `task.ambiguous` names such ones."""

    candidates: int = 4
    """Adapters that are sampled together for an ambiguous description, and readings they share."""
    rows: int = 1
    """Ambiguous descriptions in a micro-batch."""
    lines: int = 2
    """Lines of each reading that every candidate is tried on."""
    weight: float = 0.3
    """Weight of the loss on ambiguous descriptions."""
    vague_share: float = 0.1
    """Share of rows that get an ambiguous text, and examples that say what is meant."""


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """What is asked of a generated adapter."""

    behavior: Literal["labels", "distill"] = "labels"
    """Compare with the right answers, or with the zoo adapters' own output distributions."""
    behavior_weight: float = 1.0
    flow_weight: float = 0.05
    """Weight of the flow-matching loss on the zoo's tokens."""
    sampler_steps: int = 4
    """Longest path on which behavior is trained; its length and last level are drawn evenly."""
    lines_per_task: int = 8
    """Lines for each adapter and optimizer step."""
    ranks: tuple[int, ...] = (1, 2, 2, 4)
    """A batch draws one, so a rank named twice comes twice as often.

    A lower rank is the first components of a higher one.
    """
    drop_text: float = 0.1
    """Share of rows without text; they get examples, or nothing."""
    show_prompts: float = 0.2
    """Share of rows that are shown unlabeled inputs."""
    show_examples: float = 0.25
    """Share of rows that are shown input-output pairs."""
    augment: AugmentConfig | None = None
    """Changes of the zoo's adapters before they become tokens of the flow-matching loss, drawn anew
    for each batch; none by default. Their tokens are then made for each batch, whatever
    `task.cache` says."""
    readings: ReadingsConfig = field(default_factory=ReadingsConfig)


@dataclass(frozen=True, kw_only=True)
class GeneratorTaskConfig:
    """Data, base and network of a generator."""

    base: str
    """Embedded id, folder or hub id of the frozen base."""
    behaviors: str
    """File of tasks with descriptions and pairs."""
    zoo: str | None = None
    """Zoo of adapters for the flow-matching loss and for distillation."""
    cache: str = "build/cache"
    """Where the zoo's tokens are kept between runs, as large as the zoo; empty: nowhere.

    Each batch then reads its adapters from the zoo itself.
    """
    splits: tuple[str, ...] = ("seen",)
    """Splits to train on; the tasks of one named twice come twice as often."""
    validation_split: str = "unseen_composition"
    targets: tuple[str, ...] = ()
    """Suffixes of the modules that are adapted; none means every linear module but the head."""
    text_encoder: str = DEFAULT_TEXT_ENCODER
    ambiguous: str | None = None
    """File of descriptions that fit several tasks."""
    read_examples: bool = False
    """Whether the network reads examples through the base, beside their bytes."""
    start_from: str | None = None
    """Generator folder whose weights training starts from; parts it lacks start fresh."""
    remember: RememberConfig | None = None
    """What the generator of `start_from` must not forget while it learns these tasks."""
    model: ModelConfig = field(default_factory=ModelConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)

    def __post_init__(self) -> None:
        goal = self.objective
        require(
            goal.behavior == "labels" or self.zoo is not None,
            "`task.zoo` is missing, but `task.objective.behavior=distill` compares with its "
            "adapters. Set `task.zoo`.",
        )
        require(
            self.remember is None or self.start_from is not None,
            "`task.remember` is set, but there is nothing to forget. Set `task.start_from` too.",
        )
        require(
            self.ambiguous is None or 2 <= goal.readings.candidates <= 6,
            f"`task.objective.readings.candidates` is {goal.readings.candidates}, but must be "
            "between 2 and 6.",
        )
        require(
            goal.augment is None or (self.zoo is not None and goal.behavior == "labels"),
            "`task.objective.augment` changes the adapters of the flow-matching loss alone: it "
            "needs `task.zoo`, and `task.objective.behavior` must not be distill.",
        )
        require(
            goal.sampler_steps >= 1,
            f"`task.objective.sampler_steps` is {goal.sampler_steps}, but must be at least 1.",
        )
