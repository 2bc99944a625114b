"""The vectors an adapter is found by: of its descriptions, of its weights, of its effect."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from lora_gen.adapter.adapter import Adapter
from lora_gen.errors import AdapterValueError, MissingDependencyError, ZooError
from lora_gen.retrieval.features import FEATURES_VERSION, AdapterFeatures, module_features

if TYPE_CHECKING:
    from lora_gen.conditioning.text import TextEncoder
    from lora_gen.retrieval.encoder import WeightEncoder
    from lora_gen.zoo.store import Zoo

Vector = np.ndarray[tuple[int], np.dtype[np.float32]]

SIGNATURE_WIDTH = 512
_VERSION = 1
"""Of signatures and rows: another one makes every index stale."""
_DESCRIPTIONS = 3
"""Wordings of an entry that its text vector is the mean of; the first ones."""


@dataclass(frozen=True, kw_only=True)
class VectorRow:
    """What an index keeps of one entry."""

    id: str
    created: str
    base: str
    rank: int
    accuracy: float
    """-1 where it was never measured."""
    text: Vector
    """Unit vector of the descriptions; zeros where there are none."""
    signature: Vector
    """Unit vector whose inner products follow the cosines of delta weights."""
    weights: Vector
    """Unit vector of the adapter encoder, empty without one."""


class Vectorizer:
    """Makes vectors; loads the text encoder only when a text has to be read.

    Args:
        text_encoder: Name of the frozen text encoder.
        encoder: The trained encoder of weights, if there is one.
    """

    def __init__(self, text_encoder: str | None = None, encoder: WeightEncoder | None = None):
        from lora_gen.conditioning.text import DEFAULT_TEXT_ENCODER

        self.text_encoder_name = text_encoder or DEFAULT_TEXT_ENCODER
        self.encoder = encoder

    @cached_property
    def text_encoder(self) -> TextEncoder:
        """The frozen text encoder, loaded on first use."""
        from lora_gen.conditioning.text import TextEncoder

        return TextEncoder.from_pretrained(self.text_encoder_name)

    @cached_property
    def fingerprint(self) -> str:
        """Changes with everything that changes a vector; 16 hex digits."""
        parts = [_VERSION, FEATURES_VERSION, SIGNATURE_WIDTH, _DESCRIPTIONS, self.text_encoder_name]
        parts.append(self.encoder.fingerprint if self.encoder else "")
        return hashlib.blake2b(json.dumps(parts).encode(), digest_size=8).hexdigest()

    def require_encoder(self) -> WeightEncoder:
        """The trained encoder.

        Raises:
            MissingDependencyError: There is none.
        """
        if self.encoder is None:
            raise MissingDependencyError(
                "Search by weights needs a trained adapter encoder, and none was given. Pass its "
                "folder with `--encoder`, or search with `--by text`."
            )
        return self.encoder

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors of texts, (B, C)."""
        return self.text_encoder.pool(self.text_encoder.encode(texts))

    def rows(self, zoo: Zoo, ids: Sequence[str]) -> tuple[list[VectorRow], list[str]]:
        """What an index keeps of these entries, and the ids that are gone or cannot be read."""
        entries, found, failed = [], [], []
        for entry_id in ids:
            try:
                entry, vectors = zoo.get(entry_id), self._of_weights(zoo.load(entry_id))
            except ZooError:
                failed.append(entry_id)
                continue
            entries.append(entry)
            found.append(vectors)
        text_BC = self._descriptions([entry.descriptions[:_DESCRIPTIONS] for entry in entries])
        rows = [
            VectorRow(
                id=entry.id,
                created=entry.created,
                base=entry.base,
                rank=entry.rank,
                accuracy=-1.0 if entry.accuracy is None else entry.accuracy,
                text=to_vector(text_C),
                signature=signed,
                weights=weights,
            )
            for entry, text_C, (signed, weights) in zip(entries, text_BC, found, strict=True)
        ]
        return rows, failed

    def batches(
        self, zoo: Zoo, ids: Sequence[str], size: int
    ) -> Iterator[tuple[list[VectorRow], list[str]]]:
        """`rows` of so many entries at a time."""
        for start in range(0, len(ids), size):
            yield self.rows(zoo, ids[start : start + size])

    def _of_weights(self, adapter: Adapter) -> tuple[Vector, Vector]:
        """Signature and encoder vector; zeros for an adapter without any effect."""
        try:
            return signature_of(adapter), self.weights(adapter)
        except AdapterValueError:
            width = self.encoder.width if self.encoder else 0
            return np.zeros(SIGNATURE_WIDTH, np.float32), np.zeros(width, np.float32)

    def weights(self, adapter: Adapter) -> Vector:
        """The adapter encoder's vector; empty without an encoder, zeros for a base it never saw."""
        if self.encoder is None:
            return np.zeros(0, np.float32)
        if adapter.base not in self.encoder.trained_bases:
            return np.zeros(self.encoder.width, np.float32)
        return self.encoder.embed(self.encoder.features(adapter))

    def _descriptions(self, wordings: Sequence[Sequence[str]]) -> Tensor:
        """Mean of each entry's wordings as unit vectors, (B, C); zeros where there are none."""
        flat = [text for texts in wordings for text in texts]
        owner = torch.tensor([i for i, texts in enumerate(wordings) for _ in texts])
        if not flat:
            return torch.zeros(len(wordings), self.text_encoder.width)
        found_TC = torch.cat([self.texts(flat[i : i + 64]) for i in range(0, len(flat), 64)])
        sums_BC = torch.zeros(len(wordings), found_TC.shape[1]).index_add_(0, owner, found_TC)
        return torch.nn.functional.normalize(sums_BC, dim=-1)


def signature_of(adapter: Adapter) -> Vector:
    """The signature of an adapter, (SIGNATURE_WIDTH,)."""
    return signature(module_features(adapter))


def signature(features: AdapterFeatures) -> Vector:
    """A unit vector whose inner products follow the cosines of whole delta weights.

    Each module's sketch, weighted by its share of the energy, is folded by signs and places that
    its name seeds (count sketch), so that any set of modules gives one width.
    """
    share_N = 10 ** features.shape[:, -1]
    total_E = torch.zeros(SIGNATURE_WIDTH, dtype=torch.float64)
    for name, sketch_F, share in zip(features.modules, features.linear, share_N, strict=True):
        places_F, signs_F = _fold(name, sketch_F.numel())
        total_E.index_add_(0, places_F, sketch_F * signs_F * share.sqrt())
    return to_vector(torch.nn.functional.normalize(total_E, dim=0))


def to_vector(x_E: Tensor) -> Vector:
    """The tensor as a float32 array."""
    found: Vector = np.ascontiguousarray(x_E.detach().float().cpu().numpy())
    return found


@lru_cache(maxsize=512)
def _fold(name: str, size: int) -> tuple[Tensor, Tensor]:
    digest = hashlib.blake2b(name.encode(), digest_size=7).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "big"))
    places = torch.randint(SIGNATURE_WIDTH, (size,), generator=generator)
    signs = torch.randint(2, (size,), generator=generator).double() * 2 - 1
    return places, signs
