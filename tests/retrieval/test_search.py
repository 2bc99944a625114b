import shutil

import pytest
from retrieval_factories import TEXTS, WithOracle, in_another_gauge, open_bag, searchable_zoo
from zoo_factories import zoo_adapter, zoo_info

from lora_gen.errors import MissingDependencyError
from lora_gen.retrieval import search as search_module
from lora_gen.retrieval.table import Filters
from lora_gen.zoo.lock import WriterLock
from lora_gen.zoo.store import Zoo


@pytest.fixture
def ids(tmp_path):
    return searchable_zoo(tmp_path / "zoo")


@pytest.fixture(params=["lancedb", "brute force"])
def table_kind(request, monkeypatch):
    if request.param == "lancedb":
        pytest.importorskip("lancedb", reason="the extra `search` is not installed")
    else:
        monkeypatch.setattr(search_module, "has_lancedb", lambda: False)
    return request.param


def found_ids(index, text, **options):
    return [hit.entry.id for hit in index.search(text, **options)]


def test_search_finds_the_adapter_by_its_description(tmp_path, ids, table_kind):
    with open_bag(tmp_path) as index:
        for entry_id, text in zip(ids, TEXTS, strict=True):
            assert found_ids(index, text, top=1) == [entry_id]


def test_search_obeys_filters(tmp_path, ids, table_kind):
    with open_bag(tmp_path) as index:
        low_rank = Filters(max_rank=2)
        assert set(found_ids(index, TEXTS[2], filters=low_rank)) == set(ids[:2])
        good = Filters(min_accuracy=0.7)
        assert set(found_ids(index, TEXTS[0], filters=good)) == set(ids[2:])
        assert found_ids(index, TEXTS[0], filters=Filters(base="other")) == []


def test_similar_scores_are_exact_cosines_in_any_gauge(tmp_path, ids, table_kind):
    with open_bag(tmp_path) as index:
        hits = index.similar(in_another_gauge(zoo_adapter(2, rank=3)), top=4)
    assert hits[0].entry.id == ids[2]
    assert hits[0].score == pytest.approx(1.0, abs=1e-6)
    assert hits[1].score < 0.5


def test_duplicates_are_found_in_another_gauge(tmp_path, ids, table_kind):
    with Zoo.open(tmp_path / "zoo") as zoo:
        twin = zoo.add(in_another_gauge(zoo_adapter(1, rank=2)), zoo_info("twin"), dtype="float32")
    with open_bag(tmp_path) as index:
        ((left, right, cosine),) = index.duplicates()
    assert {left, right} == {ids[1], twin.id}
    assert cosine == pytest.approx(1.0, abs=1e-6)


def test_index_follows_the_catalog(tmp_path, ids, table_kind):
    open_bag(tmp_path).close()
    with Zoo.open(tmp_path / "zoo") as zoo:
        zoo.remove(ids[0])
        fresh = zoo.add(zoo_adapter(9), zoo_info("new", descriptions=("sort letters",)))
    with open_bag(tmp_path) as index:
        assert found_ids(index, "sort letters", top=1) == [fresh.id]
        assert ids[0] not in found_ids(index, TEXTS[0])


def test_entry_removed_after_opening_is_not_found(tmp_path, ids, table_kind):
    with open_bag(tmp_path) as index:
        with Zoo.open(tmp_path / "zoo") as zoo:
            zoo.remove(ids[0])
        assert ids[0] not in found_ids(index, TEXTS[0])


def test_adapter_without_descriptions_or_effect_does_no_harm(tmp_path, ids, table_kind):
    with Zoo.open(tmp_path / "zoo") as zoo:
        nothing = zoo.add(zoo_adapter(7, scaling=0.0), zoo_info("none", descriptions=()))
    with open_bag(tmp_path) as index:
        assert nothing.id not in found_ids(index, TEXTS[0])
        assert index.duplicates() == []


def test_search_by_weights_needs_an_encoder(tmp_path, ids, table_kind):
    with (
        open_bag(tmp_path) as index,
        pytest.raises(MissingDependencyError, match="needs a trained adapter encoder"),
    ):
        index.search(TEXTS[0], by="weights")


def test_second_opening_makes_nothing_again(tmp_path, ids):
    pytest.importorskip("lancedb", reason="the extra `search` is not installed")
    with open_bag(tmp_path) as index:
        assert index.repairs == ("the index took in 4 adapters and let go 0",)
    with open_bag(tmp_path) as index:
        assert index.repairs == ()


@pytest.mark.parametrize("kind", ["table", "state", "all"])
def test_damaged_index_is_made_again(tmp_path, ids, kind):
    pytest.importorskip("lancedb", reason="the extra `search` is not installed")
    open_bag(tmp_path).close()
    for path in (tmp_path / "index").rglob("*"):
        inside = ".lance" in str(path)
        if path.is_file() and (kind == "all" or (kind == "table") == inside):
            path.write_bytes(b"\0broken")
    with open_bag(tmp_path) as index:
        assert found_ids(index, TEXTS[2], top=1) == [ids[2]]


def test_locked_index_is_searched_in_memory(tmp_path, ids):
    pytest.importorskip("lancedb", reason="the extra `search` is not installed")
    (tmp_path / "index").mkdir()
    lock = WriterLock(tmp_path / "index" / ".lock")
    with open_bag(tmp_path) as index:
        assert found_ids(index, TEXTS[3], top=1) == [ids[3]]
        assert "4 adapters are searched by brute force" in index.repairs
    lock.close()
    shutil.rmtree(tmp_path / "index")


def test_unreadable_adapter_is_left_out_and_counted(tmp_path, ids, table_kind):
    with Zoo.open(tmp_path / "zoo", read_only=True) as zoo:
        shutil.rmtree(zoo.folders.path_of(ids[1]))
    with open_bag(tmp_path) as index:
        assert set(found_ids(index, TEXTS[1])) == {ids[0], ids[2], ids[3]}


def test_weights_are_found_with_every_name_and_description_removed(tmp_path, table_kind):
    items = [(zoo_adapter(i, rank=i + 1), zoo_info(f"x{i}", descriptions=())) for i in range(4)]
    with Zoo.open(tmp_path / "zoo", create=True) as zoo:
        bare = [entry.id for entry in zoo.add_many(items, dtype="float32")]
    with open_bag(tmp_path, WithOracle) as index:
        for entry_id, text in zip(bare, TEXTS, strict=True):
            assert found_ids(index, text, top=1, by="weights") == [entry_id]
            assert found_ids(index, text, top=1, by="both") == [entry_id]
            assert found_ids(index, text, top=1, by="text") == []


def test_hits_of_both_tell_their_parts(tmp_path, ids, table_kind):
    with open_bag(tmp_path, WithOracle) as index:
        (hit,) = index.search(TEXTS[1], top=1, by="both")
    assert hit.entry.id == ids[1]
    assert hit.parts == pytest.approx({"text": 1.0, "weights": 1.0}, abs=1e-5)


def test_similar_in_effect_follows_the_encoder(tmp_path, ids, table_kind):
    with open_bag(tmp_path, WithOracle) as index:
        hits = index.similar_in_effect(in_another_gauge(zoo_adapter(3, rank=4)), top=2)
    assert hits[0].entry.id == ids[3]
    assert hits[0].score == pytest.approx(1.0, abs=1e-5)


def test_another_encoder_makes_the_index_again(tmp_path, ids):
    pytest.importorskip("lancedb", reason="the extra `search` is not installed")
    open_bag(tmp_path).close()
    with open_bag(tmp_path, WithOracle) as index:
        assert index.repairs == ("the index took in 4 adapters and let go 0",)
    assert len(list((tmp_path / "index").glob("*.lance"))) == 1
