"""A refresh that dies at any step loses nothing: the zoo is the truth, the next opening goes on."""

import pytest
from retrieval_factories import TEXTS, open_bag, searchable_zoo
from zoo_factories import zoo_adapter, zoo_info

from lora_gen.retrieval import search as search_module
from lora_gen.retrieval.index import LanceTable
from lora_gen.zoo.store import Zoo

pytest.importorskip("lancedb", reason="the extra `search` is not installed")


class Killed(BaseException):
    """Stands for the end of the process: nothing in the library may catch it."""


def die_at(monkeypatch, owner, name, *, after):
    """Let `owner.name` end the process, before or after doing its work."""
    work = getattr(owner, name)

    def dying(*arguments, **options):
        if after:
            work(*arguments, **options)
        raise Killed

    monkeypatch.setattr(owner, name, dying)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (LanceTable, "add"),
        (LanceTable, "delete"),
        (LanceTable, "compact"),
        (search_module, "atomic_write_json"),
        (search_module, "drop_tables"),
    ],
)
def test_refresh_that_died_is_finished_by_the_next(tmp_path, monkeypatch, owner, name, after):
    monkeypatch.setattr(search_module, "_BATCH", 2)
    ids = searchable_zoo(tmp_path / "zoo")
    open_bag(tmp_path).close()
    with Zoo.open(tmp_path / "zoo") as zoo:
        zoo.remove(ids[0])
        fresh = zoo.add(zoo_adapter(9), zoo_info("new", descriptions=("sort letters",)))
    with monkeypatch.context() as dying:
        die_at(dying, owner, name, after=after)
        with pytest.raises(Killed):
            open_bag(tmp_path)
    with open_bag(tmp_path) as index:
        found = [hit.entry.id for hit in index.search("sort letters")]
        assert found[0] == fresh.id
        assert set(found) == {fresh.id, *ids[1:]}
        assert len(index.repairs) <= 1
    with open_bag(tmp_path) as index:
        assert index.repairs == ()
        assert index.search(TEXTS[2], top=1)[0].entry.id == ids[2]
