"""What an encoder learns from, computed once: features, descriptions and scores of a zoo.

One safetensors file, flat over modules, so that any mixture of bases and module sets fits.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from lora_gen.conditioning.text import TextEncoder
from lora_gen.errors import AdapterValueError, ConfigError, ZooError
from lora_gen.files import atomic_write_bytes
from lora_gen.models.adapter_encoder import segment_pool
from lora_gen.retrieval.encoder import side_features
from lora_gen.retrieval.features import FEATURES_VERSION, module_features
from lora_gen.retrieval.frames import HashedFrames
from lora_gen.zoo.entry import ZooEntry
from lora_gen.zoo.store import Zoo

_TEXTS_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True)
class CorpusConfig:
    """What is taken of a zoo."""

    wordings: int = 16
    """Descriptions of an entry, the first ones."""
    sketch: int = 32
    """Directions of a frame."""
    text_segments: int = 4
    """Stretches that a text is cut into."""
    text_encoder: str = "sentence-transformers/all-MiniLM-L6-v2"
    """Frozen encoder of the descriptions."""


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Flat features of many adapters; entry i owns modules `offsets[i]` to `offsets[i + 1]`."""

    sketches: Tensor
    """(modules, F) float16."""
    roles: Tensor
    """Index in `ROLES`, (modules,) int64."""
    side: Tensor
    """Spectrum and place, (modules, `side_dim`) float32."""
    scale: Tensor
    """(modules,) float32."""
    offsets: Tensor
    """(entries + 1,) int64."""
    segments: Tensor
    """Pooled descriptions, (texts, 1 + segments, C) float16."""
    owners: Tensor
    """Entry of each description, (texts,) int64."""
    accuracy: Tensor
    """Measured accuracy, NaN where there is none, (entries,) float32."""
    ids: tuple[str, ...]
    splits: tuple[str, ...]
    families: tuple[str, ...]
    bases: tuple[str, ...]
    text_fingerprint: str

    def __len__(self) -> int:
        return len(self.ids)

    def of(self, splits: Sequence[str]) -> list[int]:
        """Entries in these splits that have a description."""
        described = set(self.owners.tolist())
        return [i for i, split in enumerate(self.splits) if split in splits and i in described]

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        words = {name: value for name, value in vars(self).items() if name not in tensors}
        path.parent.mkdir(parents=True, exist_ok=True)
        contiguous = {name: value.contiguous() for name, value in tensors.items()}
        atomic_write_bytes(path, save(contiguous, metadata={"corpus": json.dumps(words)}))

    @classmethod
    def load(cls, path: Path) -> Corpus:
        """The corpus in a file.

        Raises:
            ConfigError: It is not there, or no corpus.
        """
        try:
            with safe_open(path, framework="pt") as stream:
                words: dict[str, Any] = json.loads(stream.metadata()["corpus"])
                tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
            words = {n: tuple(v) if isinstance(v, list) else v for n, v in words.items()}
            return cls(**tensors, **words)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise ConfigError(
                f"`{path}` is not a corpus of features ({error}). Delete it, and it is made again."
            ) from error


def corpus_of(
    zoo: Zoo,
    config: CorpusConfig,
    folder: Path,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Corpus:
    """The corpus of a zoo: from its file in `folder` where the zoo is unchanged, else computed.

    Args:
        zoo: The adapters.
        config: What is taken of them.
        folder: Where the file lies; its name follows from zoo and config.
        progress: Called with the number of entries done and of all.

    Raises:
        ZooError: The zoo has no adapters with an effect.
    """
    key = json.dumps([FEATURES_VERSION, asdict(config), zoo.ids()])
    name = f"features-{hashlib.blake2b(key.encode(), digest_size=8).hexdigest()}.safetensors"
    if not (folder / name).is_file():
        _compute(zoo, config, progress).save(folder / name)
    return Corpus.load(folder / name)


def _compute(zoo: Zoo, config: CorpusConfig, progress: Callable[[int, int], None] | None) -> Corpus:
    encoder = TextEncoder.from_pretrained(config.text_encoder)
    frames, entries = HashedFrames(config.sketch), list[ZooEntry]()
    parts: dict[str, list[Tensor]] = {name: [] for name in ("sketches", "roles", "side", "scale")}
    ids = zoo.ids()
    for done, entry_id in enumerate(ids):
        try:
            found = module_features(zoo.load(entry_id), frames)
        except AdapterValueError:
            continue  # without effect: there is nothing to learn from
        entries.append(zoo.get(entry_id))
        parts["sketches"].append(found.sketches().half())
        parts["roles"].append(found.roles)
        parts["side"].append(side_features(found))
        parts["scale"].append(found.scale.float())
        if progress:
            progress(done + 1, len(ids))
    if not entries:
        raise ZooError(f"`{zoo.folder}` has no adapters with an effect. Add some first.")
    lengths = torch.tensor([0, *(len(part) for part in parts["roles"])])
    segments, owners = _texts(encoder, entries, config)
    return Corpus(
        **{name: torch.cat(values) for name, values in parts.items()},
        offsets=lengths.cumsum(0),
        segments=segments,
        owners=owners,
        accuracy=torch.tensor([torch.nan if e.accuracy is None else e.accuracy for e in entries]),
        ids=tuple(entry.id for entry in entries),
        splits=tuple(entry.split for entry in entries),
        families=tuple(entry.family for entry in entries),
        bases=tuple(entry.base for entry in entries),
        text_fingerprint=encoder.fingerprint,
    )


def _texts(
    encoder: TextEncoder, entries: Sequence[ZooEntry], config: CorpusConfig
) -> tuple[Tensor, Tensor]:
    """Pooled descriptions and their owners, encoded in order of length."""
    texts = [(i, t) for i, e in enumerate(entries) for t in e.descriptions[: config.wordings]]
    pooled = torch.zeros(len(texts), 1 + config.text_segments, encoder.width, dtype=torch.float16)
    order = sorted(range(len(texts)), key=lambda n: len(texts[n][1]))
    for start in range(0, len(order), _TEXTS_AT_ONCE):
        chosen = order[start : start + _TEXTS_AT_ONCE]
        states = encoder.encode([texts[n][1] for n in chosen])
        pooled[chosen] = segment_pool(states.states, states.mask, config.text_segments).half()
    return pooled, torch.tensor([i for i, _ in texts], dtype=torch.int64)
