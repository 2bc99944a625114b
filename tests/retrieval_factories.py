"""A zoo that can be searched without a model: texts become hashed bags of words."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor
from zoo_factories import zoo_adapter, zoo_info

from lora_gen.adapter.adapter import Adapter
from lora_gen.retrieval.features import AdapterFeatures, module_features
from lora_gen.retrieval.search import AdapterIndex
from lora_gen.retrieval.vectors import Vectorizer, VectorRow
from lora_gen.zoo.store import Zoo

TEXTS = ("reverse the word", "uppercase the word", "keep only digits", "count vowels slowly")
WIDTH = 64


def text_vectors(texts: Sequence[str]) -> Tensor:
    rows = torch.zeros(len(texts), WIDTH)
    for i, text in enumerate(texts):
        for word in text.lower().split():
            rows[i, hashlib.blake2b(word.encode(), digest_size=1).digest()[0] % WIDTH] += 1
    return torch.nn.functional.normalize(rows, dim=-1)


class BagOfWords(Vectorizer):
    """A vectorizer whose text encoder is a hash."""

    def texts(self, texts: Sequence[str]) -> Tensor:
        return text_vectors(texts)


class Oracle:
    """Stands for a trained encoder: it knows which adapter each of `TEXTS` belongs to."""

    width, fingerprint = 16, "oracle"
    trained_bases = (zoo_adapter(0).base,)

    def features(self, adapter: Adapter) -> AdapterFeatures:
        return module_features(adapter)

    def embed(self, features: AdapterFeatures) -> np.ndarray:
        vector = features.linear.float().sum(0)[: self.width].numpy()
        return vector / np.linalg.norm(vector)

    def embed_texts(self, texts: Sequence[str], encoder: object) -> list[np.ndarray]:
        return [
            self.embed(module_features(zoo_adapter(i, rank=i + 1)))
            for i in (TEXTS.index(text) for text in texts)
        ]


class WithOracle(BagOfWords):
    """Also finds by weights."""

    def __init__(self) -> None:
        super().__init__(encoder=Oracle())
        self.text_encoder = SimpleNamespace(encode=list, width=WIDTH)


def searchable_zoo(folder: Path) -> list[str]:
    """Four entries, described by `TEXTS`, of rank 1 to 4; their ids."""
    items = [
        (
            zoo_adapter(i, rank=i + 1),
            zoo_info(f"task{i}", descriptions=(text,), accuracy=0.25 * (i + 1)),
        )
        for i, text in enumerate(TEXTS)
    ]
    with Zoo.open(folder, create=True) as zoo:
        return [entry.id for entry in zoo.add_many(items, dtype="float32")]


def open_bag(folder: Path, kind: type[BagOfWords] = BagOfWords) -> AdapterIndex:
    """The index of the zoo in `folder / "zoo"`, kept in `folder / "index"`."""
    return AdapterIndex.open(folder / "zoo", folder=folder / "index", vectorizer=kind())


def in_another_gauge(adapter: Adapter) -> Adapter:
    pairs = {
        name: replace(pair, lora_b=pair.lora_b.flip(1) * 2, lora_a=pair.lora_a.flip(0) / 2)
        for name, pair in adapter.pairs.items()
    }
    return replace(adapter, pairs=pairs)


def vector_rows(count: int, *, width: int = 16, seed: int = 0) -> list[VectorRow]:
    random = np.random.default_rng(seed)

    def unit() -> np.ndarray:
        x = random.standard_normal(width).astype(np.float32)
        return x / np.linalg.norm(x)

    return [
        VectorRow(
            id=f"{i:040x}",
            created="2026-01-01T00:00:00+00:00",
            base=f"it's base {i % 2}",
            rank=i % 4 + 1,
            accuracy=-1.0 if i % 5 == 0 else i % 10 / 10,
            text=np.zeros(width, np.float32) if i % 3 == 0 else unit(),
            signature=unit(),
            weights=np.zeros(0, np.float32),
        )
        for i in range(count)
    ]
