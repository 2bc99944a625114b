"""The trained encoder at work: features and texts to vectors that can be compared."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lora_gen.assets import asset_path
from lora_gen.codec.roles import ROLES
from lora_gen.errors import GeneratorError
from lora_gen.models.adapter_encoder import AdapterEncoder, ModuleSet
from lora_gen.models.described_quality import DescribedEnsemble
from lora_gen.retrieval.base_frames import FRAMES_NAME, BaseFrames
from lora_gen.retrieval.described import DESCRIBED_NAME, load_described
from lora_gen.retrieval.features import (
    NUM_SHAPE_FEATURES,
    AdapterFeatures,
    module_features,
    side_features,
)
from lora_gen.retrieval.generated import GENERATED_NAME, GeneratedQuality
from lora_gen.retrieval.shown import Examples, shown_states
from lora_gen.retrieval.vectors import Vector, to_vector

if TYPE_CHECKING:
    from lora_gen.adapter.adapter import Adapter
    from lora_gen.conditioning.chat import Chat
    from lora_gen.conditioning.text import TextEncoder, TextStates
    from lora_gen.retrieval.frames import Frames


def default_encoder() -> WeightEncoder | None:
    """The encoder that comes with the installation, for adapters of the embedded base, if any."""
    folder = asset_path("tiny_lm", "encoder")
    return WeightEncoder.from_pretrained(folder) if (folder / "config.json").is_file() else None


class WeightEncoder:
    """A frozen `AdapterEncoder` with what it takes to feed it.

    Args:
        model: The trained network.
        frames: What it sees modules through; hashed frames where nothing is given.
        generated: How good generated adapters are, where that was measured.
        described: How good adapters with a description are, where that was learned.
    """

    def __init__(
        self,
        model: AdapterEncoder,
        frames: Frames | None = None,
        generated: GeneratedQuality | None = None,
        described: DescribedEnsemble | None = None,
    ) -> None:
        self.model = model.requires_grad_(False).train(False)
        self.frames, self.generated, self.described = frames, generated, described

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> WeightEncoder:
        """The encoder that training wrote.

        Raises:
            GeneratorError: The folder holds no adapter encoder.
        """
        folder = Path(folder)
        if not (folder / "config.json").is_file():
            raise GeneratorError(
                f"`{folder}` has no `config.json`, so it is no trained adapter encoder. Train one "
                "with `accelerate launch -m training recipes/tiny_lm/encoder.yaml`."
            )
        try:
            model = AdapterEncoder.from_pretrained(folder, use_safetensors=True).float()
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            raise GeneratorError(
                f"`{folder}` does not load as an adapter encoder ({error}). Train it again."
            ) from error

        frames, generated = folder / FRAMES_NAME, folder / GENERATED_NAME
        described = folder / DESCRIBED_NAME
        return cls(
            model,
            BaseFrames.load(frames) if frames.is_file() else None,
            GeneratedQuality.load(generated) if generated.is_file() else None,
            load_described(described) if described.is_file() else None,
        )

    @property
    def width(self) -> int:
        """E, width of its vectors."""
        return int(self.model.config.embed_dim)

    @property
    def trained_bases(self) -> tuple[str, ...]:
        """Bases of the adapters it was trained on."""
        return tuple(self.model.config.trained_bases)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of its weights; 16 hex digits."""
        digest = hashlib.blake2b(digest_size=8)
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def features(self, adapter: Adapter) -> AdapterFeatures:
        """What it reads of an adapter, through its own frames.

        Raises:
            AdapterValueError: The adapter has no effect, or values that are not finite.
        """
        return module_features(adapter, self.frames)

    def modules(self, features: AdapterFeatures) -> ModuleSet:
        """One adapter as the network reads it."""
        return module_set(self.model, features)

    @torch.no_grad()
    def embed(self, features: AdapterFeatures) -> Vector:
        """The vector of an adapter, (E,)."""
        modules = self.modules(features)
        return to_vector(self.model.embed(modules, self.model.summary(modules))[0])

    @torch.no_grad()
    def embed_texts(self, states: TextStates, encoder: TextEncoder) -> list[Vector]:
        """The vectors of texts, each (E,).

        Raises:
            GeneratorError: The states are those of another text encoder.
        """
        expected = self.model.config.text_fingerprint
        if expected is not None and encoder.fingerprint != expected:
            raise GeneratorError(
                f"The adapter encoder was trained with a text encoder of fingerprint "
                f"{expected[:12]}…, but `{encoder.name}` has {encoder.fingerprint[:12]}…. Use the "
                "text encoder it was trained with."
            )
        return [to_vector(v) for v in self.model.embed_texts(states.states, states.mask)]

    @torch.no_grad()
    def embed_examples(
        self, base: Any, chat: Chat, examples: Examples, text: Vector | None = None
    ) -> Vector:
        """The vector of a task from solved examples, (E,); the base is run, no adapter is.

        Args:
            base: The base of the adapters that are looked for.
            chat: How it is asked.
            examples: Input-output pairs, three at least; six are better.
            text: The vector of a description, if there is one as well.

        Raises:
            ConditionError: There are too few examples.
            GeneratorError: The encoder never learned from examples.
        """
        if not self.model.config.shown_share:
            raise GeneratorError(
                "The adapter encoder was trained on descriptions alone, so examples say nothing to "
                "it. Search by description, or train it with `task.behaviors`."
            )
        shown_NS = shown_states(base, chat, {"examples": examples})
        said = None if text is None else torch.from_numpy(text)[None]
        return to_vector(self.model.embed_shown(shown_NS, said)[0])


def module_set(model: AdapterEncoder, features: AdapterFeatures) -> ModuleSet:
    """One adapter as the network reads it, a batch of one."""
    side_NS = side_features(features)
    slots_N = slots_of(model, features.roles, side_NS)
    content_ND = model.project(features.sketches(model.config.views).float(), slots_N)
    return ModuleSet(
        content=content_ND[None],
        slots=slots_N[None],
        side=side_NS[None],
        scale=features.scale.float()[None],
        mask=torch.ones(1, len(slots_N), dtype=torch.bool),
    )


def slots_of(model: AdapterEncoder, roles_N: Tensor, side_NS: Tensor) -> Tensor:
    """The encoder's numbers of modules whose roles index `ROLES`, (N,); -1 where unknown."""
    known = tuple(model.config.roles)
    table = torch.tensor([known.index(role) if role in known else -1 for role in ROLES])
    return model.slots(table[roles_N.long()], side_NS[:, NUM_SHAPE_FEATURES])
