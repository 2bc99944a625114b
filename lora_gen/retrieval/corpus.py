"""What an encoder learns from, computed once: the features and known facts of a zoo.

Safetensors files, flat over modules, so that any mixture of bases and module sets fits; one file
for every few hundred entries, so that a zoo that has grown costs only what is new.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from lora_gen.adapter.adapter import Adapter
from lora_gen.errors import AdapterValueError, ConfigError, ZooError
from lora_gen.files import atomic_write_bytes
from lora_gen.retrieval.features import (
    FEATURES_VERSION,
    AdapterFeatures,
    features_of_many,
    module_features,
    side_features,
)
from lora_gen.retrieval.frames import Frames, HashedFrames
from lora_gen.zoo.entry import ZooEntry
from lora_gen.zoo.store import Zoo

_CHUNK = 236
"""Entries in a file: four stacks of 59."""
_AT_ONCE = 59
"""Adapters whose modules are stacked."""


@dataclass(frozen=True, kw_only=True)
class CorpusConfig:
    """What is taken of the zoos."""

    wordings: int = 8
    """Descriptions of a task, the first ones."""
    sketch: int = 32
    """Directions of a frame."""
    views: tuple[str, ...] = ("linear",)
    """Sketches of a module that are kept: `linear`, `polar`, `rows`, `columns`."""
    probes: int = 500
    """Lines, or adapters, that the frames are fitted to; none means hashed frames."""
    directions: str = "base"
    """What frames follow: `base`, its activations and gradients, `adapters`, what those of the
    first zoo read and write, or `anchors`, the base's embeddings of known words."""
    text_segments: int = 4
    """Stretches that a text is cut into."""
    text_encoder: str = "sentence-transformers/all-MiniLM-L6-v2"
    """Frozen encoder of the descriptions."""


@dataclass(frozen=True, kw_only=True)
class Changed:
    """How entries are changed before they are looked at, where they are not taken as they are."""

    key: str
    """Names the changes, for the files of features."""
    load: Callable[[Zoo, str], Adapter]
    """The changed adapter of an entry's id."""


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
    accuracy: Tensor
    """Measured accuracy, NaN where there is none, (entries,) float32."""
    ids: tuple[str, ...]
    splits: tuple[str, ...]
    tasks: tuple[str, ...]
    bases: tuple[str, ...]
    facts: tuple[str, ...]
    """Rank, steps, fault and recipe of each entry, as JSON."""

    def __len__(self) -> int:
        return len(self.ids)

    def of(self, splits: Sequence[str], *, min_accuracy: float = 0.0) -> list[int]:
        """Entries in these splits that do their task at least this well.

        Entries that were never measured count as good.
        """
        good = (self.accuracy.nan_to_num(1.0) >= min_accuracy).tolist()
        return [i for i, split in enumerate(self.splits) if split in splits and good[i]]

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

    @classmethod
    def join(cls, parts: Sequence[Corpus]) -> Corpus:
        """The entries of several corpora, one after the other."""
        lengths = torch.cat([torch.zeros(1).long(), *(part.offsets.diff() for part in parts)])
        joined: dict[str, Any] = {"offsets": lengths.cumsum(0)}
        for name, value in vars(parts[0]).items():
            found = [getattr(part, name) for part in parts]
            if name != "offsets":
                joined[name] = torch.cat(found) if isinstance(value, Tensor) else sum(found, ())
        return cls(**joined)


def corpus_of(
    zoo: Zoo,
    config: CorpusConfig,
    folder: Path,
    *,
    frames: Frames | None = None,
    changed: Changed | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Corpus:
    """The corpus of a zoo: what its files in `folder` hold, the rest computed.

    Args:
        zoo: The adapters.
        config: What is taken of them.
        folder: Where the files lie; their names follow from entries, config and frames.
        frames: What modules are seen through; hashed frames by default.
        changed: How adapters are changed first; the facts of their entries then say `augmented`.
        progress: Called with the number of entries done and of all.

    Raises:
        ZooError: The zoo has no adapters with an effect.
    """
    frames = frames or HashedFrames(config.sketch)
    ids, parts = zoo.ids(), []
    for start in range(0, len(ids), _CHUNK):
        chosen = ids[start : start + _CHUNK]
        taken = [config.sketch, list(config.views), _fingerprint(frames)]
        more = [changed.key] if changed else []
        key = json.dumps([FEATURES_VERSION, taken, list(chosen), *more])
        name = f"features-{hashlib.blake2b(key.encode(), digest_size=8).hexdigest()}.safetensors"
        if not (folder / name).is_file():
            _compute(zoo, chosen, frames, config.views, changed).save(folder / name)
        parts.append(Corpus.load(folder / name))
        if progress:
            progress(start + len(chosen), len(ids))
    found = Corpus.join([part for part in parts if len(part)]) if any(map(len, parts)) else None
    if found is None:
        raise ZooError(f"`{zoo.folder}` has no adapters with an effect. Add some first.")
    return found


def parts_of(corpus: Corpus, *, share: float = 0.2, seed: int = 0) -> tuple[str, ...]:
    """The part of each entry: `train`, `calibration` (a share) or `test` (as many again).

    Adapters of one recipe are in one part, generated ones of one task likewise, and entries without
    a recipe are for training. In a corpus without any recipes, tasks are drawn in their place, and
    nothing is kept for tests.
    """
    facts = [json.loads(fact) for fact in corpus.facts]
    recipes = [
        f"generated/{task}" if "generated" in fact else fact.get("recipe")
        for fact, task in zip(facts, corpus.tasks, strict=True)
    ]
    if not any(recipes):
        drawn = (_draw(f"{seed}/{task}") for task in corpus.tasks)
        return tuple("calibration" if draw < share else "train" for draw in drawn)
    draws = [_draw(f"{seed}/{json.dumps(r, sort_keys=True)}") if r else 1.0 for r in recipes]
    return tuple(
        "calibration" if draw < share else "test" if draw < 2 * share else "train" for draw in draws
    )


def _draw(key: str) -> float:
    digest = hashlib.blake2b(key.encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") / 2**32


def _compute(
    zoo: Zoo,
    ids: Sequence[str],
    frames: Frames,
    views: Sequence[str],
    changed: Changed | None = None,
) -> Corpus:
    load = changed.load if changed else Zoo.load
    entries = list[ZooEntry]()
    parts: dict[str, list[Tensor]] = {name: [] for name in ("sketches", "roles", "side", "scale")}
    for start in range(0, len(ids), _AT_ONCE):
        chosen = ids[start : start + _AT_ONCE]
        for entry_id, found in _features(
            [load(zoo, entry_id) for entry_id in chosen], frames, chosen
        ):
            entries.append(zoo.get(entry_id))
            parts["sketches"].append(found.sketches(views).half())
            parts["roles"].append(found.roles)
            parts["side"].append(side_features(found))
            parts["scale"].append(found.scale.float())
    lengths = torch.tensor([0, *(len(part) for part in parts["roles"])])
    return Corpus(
        **{name: torch.cat(values) if values else torch.zeros(0) for name, values in parts.items()},
        offsets=lengths.cumsum(0),
        accuracy=torch.tensor([torch.nan if e.accuracy is None else e.accuracy for e in entries]),
        ids=tuple(entry.id for entry in entries),
        splits=tuple(entry.split for entry in entries),
        tasks=tuple(entry.task for entry in entries),
        bases=tuple(entry.base for entry in entries),
        facts=tuple(
            json.dumps(_facts(entry) | ({"augmented": True} if changed else {}))
            for entry in entries
        ),
    )


def _features(
    adapters: Sequence[Adapter], frames: Frames, ids: Sequence[str]
) -> Iterator[tuple[str, AdapterFeatures]]:
    """Features by id; adapters without effect are left out: there is nothing to learn from."""
    try:
        yield from zip(ids, features_of_many(adapters, frames), strict=True)
    except AdapterValueError:
        for entry_id, adapter in zip(ids, adapters, strict=True):
            with suppress(AdapterValueError):
                yield entry_id, module_features(adapter, frames)


def _facts(entry: ZooEntry) -> dict[str, Any]:
    """What is known of an entry's training."""
    kept = ("fault", "stack", "recipe", "generated")
    known = {name: entry.extra[name] for name in kept if name in entry.extra}
    return {"rank": entry.rank, "steps": entry.steps, **known}


def _fingerprint(frames: Frames) -> str:
    """Hash of the frames' own directions; empty for hashed ones, which never change."""
    own = getattr(frames, "frames", {})
    digest = hashlib.blake2b(digest_size=8)
    for name, frame in sorted(own.items()):
        digest.update(name.encode() + frame.float().numpy().tobytes())
    return digest.hexdigest() if own else ""
