"""What an encoder is measured on: adapters of several zoos, their parts, texts and examples."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from lora_gen.conditioning.chat import load_causal_lm
from lora_gen.errors import ConfigError
from lora_gen.retrieval.corpus import Corpus, CorpusConfig, corpus_of, parts_of
from lora_gen.retrieval.encoder import WeightEncoder
from lora_gen.retrieval.shown import Examples, shown_states
from lora_gen.retrieval.texts import TextBank, text_bank
from lora_gen.zoo.splits import require_split
from lora_gen.zoo.store import Zoo

SEEN = ("seen",)
UNSEEN = ("unseen_composition", "unseen_argument", "unseen_primitive")
GALLERY = 1_000
MIN_ACCURACY = 0.3
EXAMPLES = 6
_DEFAULT_TEXT_ENCODER = CorpusConfig().text_encoder


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that is measured on."""

    corpus: Corpus
    first: int
    """Entries of the first zoo."""
    texts: TextBank
    """Of every task: descriptions, and for unseen ones the card's and the held-out wording."""
    encoder: WeightEncoder
    parts: tuple[str, ...]
    shown: Mapping[str, Tensor] = field(default_factory=dict)
    """Unseen task -> what the base makes of a few of its test examples, (S,)."""


def load_evidence(
    zoos: Sequence[Path], texts: Path, cache: Path, encoder: WeightEncoder
) -> Evidence:
    """Read the zoos through the encoder's frames, and the wordings of their tasks.

    Raises:
        ConfigError: The texts cannot be read.
        ZooError: A zoo cannot be read.
    """
    views = tuple(encoder.model.config.views)
    sketch = encoder.frames.sketch if encoder.frames else CorpusConfig().sketch
    config = CorpusConfig(views=views, sketch=sketch)
    corpora: list[Corpus] = []
    examples: dict[str, Examples] = {}
    for folder in zoos:
        with Zoo.open(folder, read_only=True) as zoo:
            corpora.append(corpus_of(zoo, config, cache, frames=encoder.frames))
            examples = examples or _test_examples(zoo)
    corpus = Corpus.join(corpora)
    bank = text_bank(_wordings(texts, set(corpus.tasks)), cache, encoder=_DEFAULT_TEXT_ENCODER)
    return Evidence(
        corpus=corpus,
        first=len(corpora[0]),
        texts=bank,
        encoder=encoder,
        parts=parts_of(corpus),
        shown=_shown(examples, encoder),
    )


def _test_examples(zoo: Zoo) -> dict[str, Examples]:
    """A few examples of each unseen task of a zoo that no adapter was trained on."""
    found: dict[str, Examples] = {}
    for split in UNSEEN:
        for entry in zoo.entries(split=require_split(split)):
            trained = {text for text, _ in entry.examples}
            pairs = [(a, b) for a, b in entry.extra.get("tests", ()) if a not in trained]
            if len(pairs) >= EXAMPLES:
                found[entry.task] = pairs[:EXAMPLES]
    return found


def _shown(examples: Mapping[str, Examples], encoder: WeightEncoder) -> dict[str, Tensor]:
    """What the encoder's base makes of examples; nothing where the encoder does not read them."""
    if not encoder.model.config.shown_share or not examples or len(encoder.trained_bases) != 1:
        return {}
    model, chat = load_causal_lm(encoder.trained_bases[0])
    return dict(zip(examples, shown_states(model, chat, examples), strict=True))


def _wordings(path: Path, tasks: set[str]) -> dict[str, tuple[str, ...]]:
    """Two descriptions of each task and one in held-out words."""
    found = {}
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            known = json.loads(line)
            if known["task"] in tasks:
                found[known["task"]] = (*known["descriptions"][:2], known["held_out"][0])
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise ConfigError(
            f"`{path}` is not a file of tasks with descriptions ({error}). Make it with "
            "`python -m recipes.tiny_lm.encoder_texts`."
        ) from error
    return found
