"""Tasks told by solved examples, from the base's states to a search."""

import pytest
import torch
from encoder_factories import tiny_encoder
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_gen.assets import asset_path
from lora_gen.conditioning.chat import load_causal_lm
from lora_gen.errors import ConditionError, GeneratorError
from lora_gen.retrieval.by_examples import search_by_examples
from lora_gen.retrieval.encoder import WeightEncoder, default_encoder
from lora_gen.retrieval.fit_shown import StateProjection, fit_text_to_states
from lora_gen.retrieval.search import AdapterIndex
from lora_gen.retrieval.shown import shown_states
from lora_gen.retrieval.vectors import Vectorizer
from lora_gen.zoo.store import Zoo

UPPER = [(word, word.upper()) for word in ("stone", "river", "cloud", "maple", "ember", "frost")]


@pytest.fixture(scope="module")
def base():
    return load_causal_lm("tiny_lm")


def test_states_of_one_task_are_nearer_than_those_of_two(base) -> None:
    other = [(word, word[::-1]) for word, _ in UPPER]
    again = [(word, word.upper()) for word in ("table", "night", "green", "paper", "salt", "wind")]
    found = shown_states(*base, {"a": UPPER, "b": again, "c": other})
    same, apart = (found[0] - found[1]).norm(), (found[0] - found[2]).norm()
    assert same < apart
    assert found.shape == (3, 2 * 4 * 128)


def test_too_few_examples_are_refused(base) -> None:
    with pytest.raises(ConditionError, match="has 2 examples, but at least 3 are needed"):
        shown_states(*base, {"a": UPPER[:2]})


@settings(max_examples=20, deadline=None)
@given(st.floats(0.1, 0.9), st.integers(0, 99))
def test_both_halves_of_a_vector_have_their_share(share: float, seed: int) -> None:
    model = tiny_encoder(embed_dim=6, shown_dim=4, shown_share=share)
    torch.manual_seed(seed)
    model.shown_basis.normal_()
    vectors = model.unit(torch.randn(3, 6))
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(vectors[:, 3:].norm(dim=1), torch.full((3,), share**0.5))
    told = model.embed_shown(torch.randn(3, 4), vectors)
    torch.testing.assert_close(told[:, :3], vectors[:, :3])
    alone = model.embed_shown(torch.randn(3, 4))
    torch.testing.assert_close(alone.norm(dim=1), torch.ones(3))
    assert float(alone[:, :3].abs().max()) == 0


def test_texts_are_mapped_to_the_states_of_their_tasks() -> None:
    torch.manual_seed(0)
    states, texts = torch.randn(60, 8), torch.randn(60, 5)
    states[:, :5] = 10 * texts @ torch.randn(5, 5)
    found = StateProjection.fit(states, 2, 4)
    weights = fit_text_to_states(texts, texts.mean(0), found(states))
    told, truth = (texts - texts.mean(0)) @ weights, found(states)
    assert float(torch.nn.functional.cosine_similarity(told, truth).mean()) > 0.9


def test_encoder_of_descriptions_alone_refuses_examples(base) -> None:
    with pytest.raises(GeneratorError, match="was trained on descriptions alone"):
        WeightEncoder(tiny_encoder()).embed_examples(*base, UPPER)


def test_shipped_encoder_finds_adapters_by_examples(tmp_path) -> None:
    with (
        Zoo.open(asset_path("tiny_lm", "zoo"), read_only=True) as shipped,
        Zoo.open(tmp_path / "zoo", create=True) as few,
    ):
        entries = shipped.entries(split="seen")[:24]
        few.add_many([(shipped.load(entry.id), entry.info()) for entry in entries])
    vectorizer = Vectorizer(encoder=default_encoder())
    with AdapterIndex.open(tmp_path / "zoo", folder=tmp_path, vectorizer=vectorizer) as index:
        for wanted in entries[:3]:
            examples, text = wanted.examples[:6], wanted.descriptions[0]
            for told in (None, text):
                hits = search_by_examples(index, examples, text=told, top=3)
                assert wanted.task in {hit.entry.task for hit in hits}
