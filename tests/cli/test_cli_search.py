import json

import pytest
from cli_factories import lora_gen
from retrieval_factories import TEXTS, searchable_zoo, text_vectors
from zoo_factories import zoo_adapter

from lora_gen.adapter.io import save_adapter
from lora_gen.retrieval import encoder as encoder_module
from lora_gen.retrieval.vectors import Vectorizer


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    monkeypatch.setattr(Vectorizer, "texts", lambda self, texts: text_vectors(texts))
    monkeypatch.setenv("LORA_GEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "zoo", searchable_zoo(tmp_path / "zoo")


def test_search_prints_records_as_json(zoo):
    folder, ids = zoo
    result = lora_gen("search", TEXTS[2], "--zoo", folder, "--top", 2, "--json")
    first, _ = json.loads(result.stdout)
    assert result.exit_code == 0
    assert (first["id"], first["rank"], first["accuracy"]) == (ids[2], 3, 0.75)
    assert first["score"] == pytest.approx(1.0)


def test_search_prints_a_table(zoo):
    folder, ids = zoo
    result = lora_gen("search", TEXTS[0], "--zoo", folder, "--top", 1)
    assert result.exit_code == 0
    assert ids[0][:6] in result.stdout


def test_search_by_weights_says_what_it_needs(zoo, monkeypatch):
    monkeypatch.setattr(encoder_module, "default_encoder", lambda: None)
    result = lora_gen("search", TEXTS[0], "--zoo", zoo[0], "--by", "weights")
    assert result.exit_code == 2
    assert "Search by weights needs a trained adapter encoder" in result.stderr


def test_similar_names_the_adapter_itself_first(zoo, tmp_path):
    folder, ids = zoo
    mine = save_adapter(zoo_adapter(1, rank=2), tmp_path / "mine", exact=True)
    result = lora_gen("similar", mine, "--zoo", folder, "--json")
    first = json.loads(result.stdout)[0]
    assert first["id"] == ids[1]
    assert first["score"] == pytest.approx(1.0, abs=1e-6)


def test_zoo_duplicates_lists_pairs(zoo):
    result = lora_gen("zoo", "duplicates", zoo[0], "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == []


def test_similar_refuses_a_missing_adapter(zoo, tmp_path):
    result = lora_gen("similar", tmp_path / "none", "--zoo", zoo[0])
    assert result.exit_code == 2
    assert "does not exist" in result.stderr


def test_search_needs_words_or_examples(zoo):
    result = lora_gen("search", "--zoo", zoo[0])
    assert result.exit_code == 2
    assert "Nothing says what to look for" in result.stderr


def test_search_by_examples_says_what_it_needs(zoo, tmp_path, monkeypatch):
    monkeypatch.setattr(encoder_module, "default_encoder", lambda: None)
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("a,A\nb,B\nc,C\n")
    result = lora_gen("search", "--zoo", zoo[0], "--examples", pairs)
    assert result.exit_code == 2
    assert "needs a trained adapter encoder" in result.stderr
