"""Reading once gives what embedding anew gives, under every lens."""

from __future__ import annotations

import pytest
import torch

from lora_gen.adapter.adapter import Adapter, LoraPair
from lora_gen.evaluation.embedding import Embedder
from lora_gen.evaluation.lens_fitting import initial_factors, lens_adapter
from lora_gen.evaluation.lens_reader import LensReader

TEXTS = ["The server is down, hurry!", "Whenever you have time, rename it.", "ok", "ok"]


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder.from_pretrained()


@pytest.fixture(scope="module")
def lens(embedder: Embedder) -> Adapter:
    factors = initial_factors(embedder.spec, [0], 2)
    filled = {name: (a, torch.full_like(b, 0.02)) for name, (a, b) in factors.items()}
    return lens_adapter(filled, 0, embedder.spec)


def test_read_once_embeds_as_ever_with_and_without_a_lens(
    embedder: Embedder, lens: Adapter
) -> None:
    reader = LensReader(embedder)
    for adapter in (None, lens, None):
        expected = embedder.embed(TEXTS, adapter)
        torch.testing.assert_close(reader.embed(TEXTS, adapter), expected, atol=1e-5, rtol=0)


def test_an_adapter_of_lower_blocks_is_read_from_the_text(embedder: Embedder) -> None:
    a, b = torch.ones(1, 384) / 50, torch.ones(384, 1) / 50
    pair = LoraPair(lora_a=a, lora_b=b)
    low = Adapter(pairs={"encoder.layer.0.attention.self.query": pair}, base=embedder.spec.id)
    found = LensReader(embedder).embed(TEXTS, low)
    torch.testing.assert_close(found, embedder.embed(TEXTS, low), atol=1e-5, rtol=0)


def test_texts_beyond_the_limit_are_forgotten(embedder: Embedder) -> None:
    reader = LensReader(embedder, keep=2)
    for texts in (TEXTS, ["another"]):
        reader.embed(texts)
    assert list(reader._read) == ["another"]
