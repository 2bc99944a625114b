"""What the encoder of weights learns from: adapters by part, and texts by task."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path

import torch
from torch import Tensor

from lora_gen.adapter.base_model import BaseModelSpec
from lora_gen.errors import ConfigError
from lora_gen.retrieval.anchors import AnchorFrames
from lora_gen.retrieval.base_frames import BaseFrames
from lora_gen.retrieval.corpus import Changed, Corpus, corpus_of, parts_of
from lora_gen.retrieval.texts import TextBank, text_bank
from lora_gen.zoo.entry import ZooEntry
from lora_gen.zoo.store import Zoo
from training.adapter_variants import Variants
from training.base_frames import fit_base_frames
from training.encoder_config import EncoderTaskConfig
from training.encoder_shown import task_states
from training.zoo_frames import fit_zoo_frames

_PROBE_SEED = 0


@dataclass(frozen=True, kw_only=True)
class EncoderData:
    """Adapters and texts of an encoder task."""

    corpus: Corpus
    texts: TextBank
    frames: BaseFrames | None
    """What modules are seen through; hashed frames without."""
    parts: tuple[str, ...]
    """Part of each entry: what is fitted (`train`), calibrates, or is left alone (`test`)."""
    held_out: frozenset[str]
    """Tasks that only validate."""
    states: Mapping[str, Tensor]
    """Task -> what it is to the base itself; nothing where only descriptions count."""


def load_encoder_data(config: EncoderTaskConfig, seed: int) -> EncoderData:
    """Read the zoos, with everything that can be cached computed once.

    Raises:
        ConfigError: There is no zoo, or the practice file is damaged.
        ZooError: A zoo cannot be read.
    """
    if not config.zoos:
        raise ConfigError("`task.zoos` is empty, but must name at least one zoo's folder.")
    cache = Path(config.cache)
    entries: list[ZooEntry] = []
    corpora, frames = [], None
    for folder in config.zoos:
        with Zoo.open(folder, read_only=True) as zoo:
            found = zoo.entries()
            if config.base and config.corpus.probes and frames is None:
                frames = _frames(config, zoo, found, cache)
            corpora.append(corpus_of(zoo, config.corpus, cache, frames=frames))
            if (copies := _copies(config, seed)) is not None:
                corpora.append(corpus_of(zoo, config.corpus, cache, frames=frames, changed=copies))
            entries += found
    corpus = Corpus.join(corpora)
    texts = text_bank(_texts(config, entries), cache, encoder=config.corpus.text_encoder)
    return EncoderData(
        corpus=corpus,
        texts=texts,
        frames=frames,
        parts=parts_of(corpus, share=config.calibration_share, seed=seed),
        held_out=_held_out_tasks(config),
        states=task_states(config),
    )


def _copies(config: EncoderTaskConfig, seed: int) -> Changed | None:
    """The changed copy of each adapter that is learned from beside it."""
    if config.augment is None:
        return None
    variants, key = Variants(config.augment, seed), json.dumps([asdict(config.augment), seed])
    return Changed(key=key, load=lambda zoo, entry_id: variants.of(zoo, entry_id, 0))


def is_copy(corpus: Corpus, entry: int) -> bool:
    """Whether an entry is a changed copy, which teaches vectors and says nothing of quality."""
    return "augmented" in json.loads(corpus.facts[entry])


def recipe_labels(corpus: Corpus) -> tuple[Tensor, Tensor]:
    """(class of rank, class of module set) of each entry, what vectors should not tell."""
    ranks = torch.tensor([json.loads(fact)["rank"] for fact in corpus.facts])
    counts = corpus.offsets.diff()
    return (
        ranks.float().log2().round().long().clamp(0, 5),
        torch.unique(counts, return_inverse=True)[1],
    )


def _frames(
    config: EncoderTaskConfig, zoo: Zoo, entries: Sequence[ZooEntry], cache: Path
) -> BaseFrames:
    """Frames of the base, fitted once to some seen tasks: an example of each, or its adapter."""
    if config.corpus.directions == "anchors":
        return _anchored(config.base, config.corpus.sketch)
    chosen = [e for e in entries if e.split in config.splits and e.examples]
    chosen = sorted(chosen, key=lambda entry: entry.id)
    random.Random(_PROBE_SEED).shuffle(chosen)
    chosen, sketch = chosen[: config.corpus.probes], config.corpus.sketch
    pairs = [entry.examples[0] for entry in chosen]
    own = config.corpus.directions == "adapters"
    key = json.dumps([config.base, [e.id for e in chosen] if own else pairs, sketch])
    path = cache / f"frames-{blake2b(key.encode(), digest_size=8).hexdigest()}.safetensors"
    if not path.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        if own:
            found = fit_zoo_frames((zoo.load(entry.id) for entry in chosen), sketch=sketch)
        else:
            found = fit_base_frames(config.base, pairs, sketch=sketch)
        found.save(path)
    return BaseFrames.load(path)


def _anchored(base: str, sketch: int) -> BaseFrames:
    """Frames of known words, for every module of a base."""
    anchors, frames = AnchorFrames.from_base(base, sketch=sketch), dict[str, Tensor]()
    for name, shape in BaseModelSpec.from_config(base).modules.items():
        frames[f"{name}/in"] = anchors.of(name, "in", shape.in_features)[1]
        frames[f"{name}/out"] = anchors.of(name, "out", shape.out_features)[1]
    return BaseFrames(frames)


def _texts(config: EncoderTaskConfig, entries: Sequence[ZooEntry]) -> dict[str, tuple[str, ...]]:
    """Task -> descriptions: those of the file of texts, then those of seen entries."""
    texts: dict[str, tuple[str, ...]] = {}
    if config.texts:
        try:
            for line in Path(config.texts).read_text(encoding="utf-8").splitlines():
                known = json.loads(line)
                if known["split"] in ("practice", *config.splits):
                    texts[known["task"]] = tuple(known["descriptions"][: config.corpus.wordings])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"`{config.texts}` is not a file of tasks with descriptions ({error}). Make it "
                "again, or leave `task.texts` empty."
            ) from error
    for entry in entries:
        if entry.descriptions and entry.split in config.splits:
            texts.setdefault(entry.task, entry.descriptions[: config.corpus.wordings])
    return texts


def _held_out_tasks(config: EncoderTaskConfig) -> frozenset[str]:
    if not config.validation_tasks:
        return frozenset()
    try:
        return frozenset(json.loads(Path(config.validation_tasks).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"`{config.validation_tasks}` is not a JSON list of tasks ({error}). Write one, or "
            "leave `task.validation_tasks` empty."
        ) from error
