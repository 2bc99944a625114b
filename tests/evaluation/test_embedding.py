"""Vectors of the real all-MiniLM-L6-v2: the ones that sentence-transformers and PEFT make."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lora_gen.adapter import minilm
from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.base_model import BaseModelSpec, resolve_base
from lora_gen.adapter.io import load_adapter, save_adapter
from lora_gen.adapter.stacked import stack_adapters
from lora_gen.errors import BaseModelError, ConditionError, ConfigError
from lora_gen.evaluation.embedding import Embedder
from lora_gen.evaluation.lens_fitting import (
    LensFitConfig,
    contrastive_loss,
    fit_lenses,
    initial_factors,
    lens_adapter,
)

TEXTS = ["The server is down, hurry!", "Whenever you have time, rename the folder.", "ok"]


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder.from_pretrained()


@pytest.fixture(scope="module")
def lens(embedder: Embedder) -> Adapter:
    factors = initial_factors(embedder.spec, [0], 4)
    random = torch.Generator().manual_seed(1)
    filled = {
        name: (a, torch.randn(b.shape, generator=random) * 0.05) for name, (a, b) in factors.items()
    }
    return lens_adapter(filled, 0, embedder.spec)


@pytest.fixture(scope="module")
def folder(lens: Adapter, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_adapter(lens, tmp_path_factory.mktemp("lens") / "urgent", exact=True)


def test_minilm_is_the_checked_package_under_both_names() -> None:
    folder = resolve_base("minilm")
    assert folder == resolve_base(minilm.MINILM_ID) == minilm.minilm_package()
    assert BaseModelSpec.from_config("minilm").id == minilm.MINILM_ID


def test_minilm_with_other_weights_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "MINILM_SHA256", "0" * 64)
    with pytest.raises(BaseModelError, match="have sha256 53aa51172d14…, but those of"):
        resolve_base("minilm")


def test_one_pass_below_the_lens_serves_every_lens(embedder: Embedder, lens: Adapter) -> None:
    found = embedder.vectors_from(embedder.read(TEXTS), stack_adapters([lens]))
    torch.testing.assert_close(found, embedder.embed(TEXTS, lens), atol=1e-5, rtol=0)


def test_a_lens_adapts_the_upper_blocks_and_not_the_pooler(lens: Adapter) -> None:
    assert len(lens.pairs) == 12
    assert {name.split(".")[2] for name in lens.pairs} == {"4", "5"}


def test_vectors_equal_those_of_sentence_transformers(
    embedder: Embedder, lens: Adapter, folder: Path
) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    model = sentence_transformers.SentenceTransformer(str(resolve_base("minilm")), device="cpu")
    expected = torch.tensor(model.encode(TEXTS))
    torch.testing.assert_close(embedder.embed(TEXTS), expected, atol=1e-5, rtol=0)
    model.load_adapter(str(folder))
    adapted = torch.tensor(model.encode(TEXTS))
    torch.testing.assert_close(embedder.embed(TEXTS, lens), adapted, atol=1e-5, rtol=0)
    assert float((adapted - expected).norm()) > 0.1


def test_vectors_equal_those_of_peft(embedder: Embedder, lens: Adapter, folder: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModel, AutoTokenizer

    place = resolve_base("minilm")
    model = PeftModel.from_pretrained(AutoModel.from_pretrained(place), folder).eval()
    batch = AutoTokenizer.from_pretrained(place)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        states = model(**batch).last_hidden_state
    weight = batch["attention_mask"][..., None]
    mean = torch.nn.functional.normalize((states * weight).sum(1) / weight.sum(1), dim=1)
    torch.testing.assert_close(embedder.embed(TEXTS, lens), mean, atol=1e-5, rtol=0)


def test_a_saved_lens_loads_as_it_was(lens: Adapter, folder: Path, embedder: Embedder) -> None:
    loaded = load_adapter(folder)
    assert loaded.base == minilm.MINILM_ID
    torch.testing.assert_close(embedder.embed(TEXTS, loaded), embedder.embed(TEXTS, lens))


def test_order_and_batches_change_no_vector(embedder: Embedder) -> None:
    one, by_one = embedder.embed(TEXTS), embedder.embed(TEXTS[::-1], batch_size=1)
    torch.testing.assert_close(one, by_one.flip(0), atol=1e-5, rtol=0)


def test_long_text_is_cut_and_empty_text_refused(embedder: Embedder) -> None:
    long = "word " * 300
    torch.testing.assert_close(embedder.embed([long]), embedder.embed(["word " * 254]))
    with pytest.raises(ConditionError, match=r"`texts\[1\]` is empty"):
        embedder.embed(["a", " "])


def test_lenses_of_a_stack_are_trained_as_alone(embedder: Embedder) -> None:
    data = [(text, text[0]) for text in ("a dog", "b cat", "a cow", "b hen")]
    config = LensFitConfig(steps=2, batch=4, rank=2)
    both = fit_lenses(embedder, [data, data], config, seeds=[3, 4])
    names = list(both)
    adapters = [lens_adapter(both, i, embedder.spec) for i in (0, 1)]
    assert not torch.equal(*(one.pairs[names[0]].lora_a for one in adapters))
    stacked = embedder.vectors([*TEXTS, *TEXTS], stack_adapters(adapters)).detach()
    alone = torch.cat([embedder.embed(TEXTS, one) for one in adapters])
    torch.testing.assert_close(stacked, alone, atol=1e-5, rtol=0)


def test_training_lowers_the_contrastive_loss(embedder: Embedder) -> None:
    data = [(f"{word} {i}", word) for word in ("yes", "no") for i in range(4)]
    texts, labels = [text for text, _ in data], torch.tensor([[0] * 4 + [1] * 4])
    config = LensFitConfig(steps=4, batch=8, rank=2)
    anchors = [[("yes", "yes"), ("no", "no")]]
    fitted = fit_lenses(embedder, [data], config, seeds=[0], anchors=anchors)
    before, after = (
        contrastive_loss(embedder.vectors(texts, f).detach()[None], labels, 0.1)
        for f in (None, fitted)
    )
    assert float(after) < float(before)


def test_contrastive_loss_is_least_when_values_are_apart() -> None:
    labels = torch.tensor([[0, 0, 1, 1]])
    apart = torch.eye(2)[[0, 0, 1, 1]][None]
    mixed = torch.eye(2)[[0, 1, 0, 1]][None]
    losses = [float(contrastive_loss(one, labels, 0.1)) for one in (apart, mixed)]
    assert losses[0] < 0.01 < losses[1]


@pytest.mark.parametrize("values", [["a", "a"], ["a", "b"]])
def test_fitting_refuses_examples_without_contrast(embedder: Embedder, values: list[str]) -> None:
    data = [(f"text {i}", value) for i, value in enumerate(values)]
    with pytest.raises(ConfigError, match="a lens needs at least two values, and two sentences"):
        fit_lenses(embedder, [data], LensFitConfig(steps=1), seeds=[0])
