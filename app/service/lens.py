"""Sentences before and after a lens: where they lie, what is near, what they are called."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.service import limits
from app.service.downloads import zip_folder
from app.service.sessions import CancelledError, OwnAdapter, Session
from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.io import save_adapter
from lora_gen.adapter.minilm import MINILM, minilm_package
from lora_gen.assets import asset_path
from lora_gen.errors import BaseModelError, ConditionError

if TYPE_CHECKING:
    from torch import Tensor

    from lora_gen.evaluation.baselines.nearest import NearestText
    from lora_gen.evaluation.lens_reader import LensReader
    from lora_gen.pipeline import LoraGenPipeline
    from lora_gen.zoo.store import Zoo

FEWEST, MOST, MOST_LABELS, SHOWN = 3, 64, 6, 5
MAX_LABEL = 60
SAME = 0.7
"""Cosine from which a request is taken for the description of a trained lens: no description of an
unseen criterion comes as near to one (recipes/LOG.md)."""
_WORKING = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Side:
    """Sentences as one model sees them."""

    places: tuple[tuple[float, float], ...]
    """Of each sentence on a map."""

    labels: tuple[str, ...]
    """The label whose words are nearest to each sentence."""

    nearest: tuple[tuple[str, float], ...]
    """The sentences nearest to the query, with their cosines."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """The same sentences under the base and under a lens."""

    sentences: tuple[str, ...]
    names: tuple[str, ...]
    """The labels to color by."""
    query: str
    base: Side
    lens: Side
    own: OwnAdapter
    zip: Path
    sentence: str
    """Where the lens comes from."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able content."""
        sides = {"base": self.base, "lens": self.lens}
        return {
            "id": self.own.id,
            "sentence": self.sentence,
            "sentences": list(self.sentences),
            **{
                name: {"labels": list(side.labels), "nearest": [list(n) for n in side.nearest]}
                for name, side in sides.items()
            },
        }


def is_at_hand() -> bool:
    """Whether both the embedding model and lenses for it are installed."""
    has_lenses = any(_place(part).is_dir() for part in ("generator", "zoo"))
    return minilm_package() is not None and has_lenses


def look(session: Session, description: Any, sentences: Any, labels: Any, query: Any) -> Look:
    """The lens that a sentence asks for, kept in the session, and what it does to others.

    Args:
        session: Whose lens it is.
        description: What two sentences should have in common to be near.
        sentences: Lines of text.
        labels: Words to color by, with commas between them.
        query: What to look for; the first sentence if it is blank.

    Raises:
        LoraGenError: A value is unusable, or the base or its generator is not installed.
        CancelledError: The visitor left meanwhile.
    """
    text = str(limits.description(description, required=True))
    lines = _sentences(sentences)
    names = _labels(labels)
    (wanted,) = limits.inputs([query or lines[0]], name="query", most=1) or [lines[0]]
    _require_installed()
    with session.work() as cancelled:
        with _WORKING:
            lens, record, sentence = _made(text, names)
            sides = [_side(one, lines, names, wanted) for one in (None, lens)]
        if cancelled.is_set():
            raise CancelledError
        new, folder = session.new_folder()
        save_adapter(lens, folder, provenance=record)
        own = OwnAdapter(
            id=new, title=text, adapter=lens, folder=folder, source="generated", record=record
        )
        session.keep(own)
        zip = zip_folder(folder, new)
    return Look(
        sentences=tuple(lines),
        names=tuple(names),
        query=wanted,
        base=sides[0],
        lens=sides[1],
        own=own,
        zip=zip,
        sentence=sentence,
    )


def _side(lens: Adapter | None, lines: list[str], names: list[str], query: str) -> Side:
    vectors = _reader().embed([*lines, *names, query], lens)
    own, labels, asked = vectors[: len(lines)], vectors[len(lines) : -1], vectors[-1]
    cosines = own @ asked
    order = cosines.argsort(descending=True).tolist()
    near = [(lines[i], float(cosines[i])) for i in order if lines[i] != query][:SHOWN]
    return Side(
        places=_places(own),
        labels=tuple(names[i] for i in (own @ labels.mT).argmax(1).tolist()),
        nearest=tuple(near),
    )


def _places(vectors_NE: Tensor) -> tuple[tuple[float, float], ...]:
    """The two directions in which the vectors differ most."""
    import torch

    centered_NE = (vectors_NE - vectors_NE.mean(0)).double()
    left_NN, sizes_N, _ = torch.linalg.svd(centered_NE, full_matrices=False)
    return tuple((x, y) for x, y in (left_NN[:, :2] * sizes_N[:2]).tolist())


def _made(text: str, names: Sequence[str]) -> tuple[Adapter, dict[str, Any], str]:
    """(the lens, how it came about, the same in a sentence).

    Where a trained lens was described in nearly these words it is better than any made from them;
    for everything else a made one is, most of all when it is told what there is to tell apart.
    """
    import torch

    zoo, nearest = _trained()
    ((id, cosine),) = nearest.neighbors([text], 1)[0]
    if cosine >= SAME or not _place("generator").is_dir():
        entry = zoo.get(id)
        record = {"text": text, "nearest": entry.task, "cosine": cosine}
        said = f"\u201c{entry.descriptions[0]}\u201d"
        return zoo.load(id), record, f"The nearest of {len(zoo)} trained lenses: {said}."
    told = f"{text} ({', '.join(names)})" if len(names) > 1 else text
    made = _pipeline()(told, base=MINILM, generator=torch.Generator().manual_seed(0))
    words = "sentence and labels" if len(names) > 1 else "sentence"
    return made.adapters[0], made.provenance[0], f"The lens was made from your {words}."


@cache
def _pipeline() -> LoraGenPipeline:
    from lora_gen.pipeline import LoraGenPipeline

    return LoraGenPipeline.from_pretrained(_place("generator"))


@cache
def _trained() -> tuple[Zoo, NearestText]:
    from lora_gen.evaluation.baselines.nearest import NearestText
    from lora_gen.zoo.store import Zoo

    zoo = Zoo.open(_place("zoo"), read_only=True)
    return zoo, NearestText(zoo, [entry.id for entry in zoo.entries()], _reader().embedder.encoder)


@cache
def _reader() -> LensReader:
    from lora_gen.evaluation.embedding import Embedder
    from lora_gen.evaluation.lens_reader import LensReader

    return LensReader(Embedder.from_pretrained(MINILM), keep=1_024)


def _place(part: str) -> Path:
    return asset_path(MINILM, part)


def _require_installed() -> None:
    if not is_at_hand():
        raise BaseModelError(
            f"`{MINILM}` is not installed here, or no lens for it, so nothing can be shown. "
            'Run `pip install "lora_gen[demo]"`.'
        )


def _sentences(value: Any) -> list[str]:
    lines = list(dict.fromkeys(limits.inputs(value, name="sentences", most=MOST)))
    if len(lines) < FEWEST:
        raise ConditionError(
            f"`sentences` has {len(lines)} different lines, but a map needs at least {FEWEST}. "
            "Write one sentence on a line."
        )
    return lines


def _labels(value: Any) -> list[str]:
    parts: Sequence[Any] = value.split(",") if isinstance(value, str) else value or ()
    names = list(dict.fromkeys(limits.inputs([*parts], name="labels", most=MOST_LABELS)))
    names = [name.strip()[:MAX_LABEL] for name in names]
    if not names:
        raise ConditionError(
            "`labels` is empty. Name what the sentences are colored by, such as: urgent, can wait."
        )
    return names
