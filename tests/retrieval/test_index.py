import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from retrieval_factories import vector_rows

from lora_gen.retrieval.errors import IndexDamagedError
from lora_gen.retrieval.index import LanceTable, drop_tables
from lora_gen.retrieval.table import Filters, MemoryTable

pytest.importorskip("lancedb", reason="the extra `search` is not installed")
ROWS = vector_rows(40)
QUERY = vector_rows(1, seed=9)[0].signature


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    table = LanceTable(tmp_path_factory.mktemp("index"), "vectors_a")
    table.add(ROWS[:25])
    table.add(ROWS[25:])
    return table


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from(["text", "signature", "weights"]),
    st.integers(1, 50),
    st.sampled_from([None, "it's base 0", "it's base 1", "none"]),
    st.sampled_from([None, 1, 3]),
    st.sampled_from([None, 0.0, 0.35]),
)
def test_lance_answers_as_brute_force(table, column, limit, base, max_rank, min_accuracy):
    filters = Filters(base=base, max_rank=max_rank, min_accuracy=min_accuracy)
    if column == "weights":  # no row has an encoder's vector
        assert MemoryTable(ROWS).search(column, QUERY, limit, filters) == []
        return
    found = table.search(column, QUERY, limit, filters)
    expected = MemoryTable(ROWS).search(column, QUERY, limit, filters)
    assert [entry_id for entry_id, _ in found] == [entry_id for entry_id, _ in expected]
    assert [score for _, score in found] == pytest.approx([s for _, s in expected], abs=1e-5)


def test_tables_tell_ids_and_vectors(table):
    for column in ("text", "signature"):
        ids, vectors = table.vectors(column)
        known, expected = MemoryTable(ROWS).vectors(column)
        order = [ids.index(entry_id) for entry_id in known]
        assert vectors[order] == pytest.approx(expected)
    assert table.created() == MemoryTable(ROWS).created()


def test_deleted_rows_are_not_found(tmp_path):
    table = LanceTable(tmp_path, "vectors_a")
    table.add(ROWS[:5])
    table.delete([ROWS[1].id, ROWS[2].id])
    table.compact()
    again = LanceTable(tmp_path, "vectors_a")
    assert set(again.created()) == {ROWS[0].id, ROWS[3].id, ROWS[4].id}


def test_table_without_rows_finds_nothing(tmp_path):
    table = LanceTable(tmp_path, "vectors_a")
    assert table.search("text", QUERY, 5, Filters()) == []
    assert table.created() == {}


def test_damaged_table_is_named_and_dropped(tmp_path):
    LanceTable(tmp_path, "vectors_a").add(ROWS[:5])
    for path in (tmp_path / "vectors_a.lance").rglob("*.*"):
        if path.is_file():
            path.write_bytes(b"broken")
    with pytest.raises(IndexDamagedError, match="It is made again from the zoo"):
        LanceTable(tmp_path, "vectors_a").search("text", QUERY, 5, Filters())
    drop_tables(tmp_path)
    assert LanceTable(tmp_path, "vectors_a").created() == {}
