"""Quarantine, block-list, forgetting, and who learned from an entry."""

import json

import pytest
from zoo_factories import fill_zoo, zoo_adapter, zoo_info

from lora_gen.errors import ZooError
from lora_gen.zoo.provenance import trained_on
from lora_gen.zoo.store import Zoo


def test_quarantined_entry_is_kept_but_served_to_nobody(tmp_path):
    ids = fill_zoo(tmp_path / "zoo")
    with Zoo.open(tmp_path / "zoo") as zoo:
        zoo.guard.quarantine(ids[1], "answers with advertisements")
        assert (zoo.ids(), len(zoo)) == ([ids[0], ids[2]], 2)
        with pytest.raises(ZooError, match=r"is in quarantine \(answers with advertisements\)"):
            zoo.load(ids[1])
        report = zoo.verify()
        assert (report.ok, report.checked, report.orphaned) == (True, 3, ())
        zoo.guard.release(ids[1])
        assert zoo.ids() == ids
        assert zoo.load(ids[1]).base == "tiny_lm"


def test_quarantine_holds_for_readers_and_against_adding_again(tmp_path):
    ids = fill_zoo(tmp_path / "zoo", 1)
    with Zoo.open(tmp_path / "zoo") as zoo, Zoo.open(tmp_path / "zoo", read_only=True) as reader:
        zoo.guard.quarantine(ids[0], "suspect")
        assert reader.ids() == []
        with pytest.raises(ZooError, match=r"is in quarantine \(suspect\), so it is not added"):
            zoo.add(zoo_adapter(0), zoo_info("task0"))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda guard, i: guard.quarantine(i, " "), "`reason` is empty; a quarantine says why"),
        (lambda guard, i: guard.quarantine("f" * 40, "x"), "`f+` is not in `.*`"),
        (lambda guard, i: guard.release(i), "is not in quarantine"),
        (lambda guard, i: guard.block("../x"), r"`\.\./x` is not a hash. Pass an entry's id"),
        (lambda guard, i: guard.unblock(i), "is not on the block-list"),
        (lambda guard, i: guard.forget("f" * 40), "`f+` is not in `.*`"),
        (lambda guard, i: guard.find_id("zz"), "`zz` begins no id in"),
    ],
)
def test_guard_refuses_what_makes_no_sense(tmp_path, call, sentence):
    (entry_id,) = fill_zoo(tmp_path / "zoo", 1)
    with Zoo.open(tmp_path / "zoo") as zoo, pytest.raises(ZooError, match=sentence):
        call(zoo.guard, entry_id)


def test_guard_refuses_to_change_a_zoo_that_is_read(tmp_path):
    (entry_id,) = fill_zoo(tmp_path / "zoo", 1)
    with (
        Zoo.open(tmp_path / "zoo", read_only=True) as zoo,
        pytest.raises(ZooError, match="is open for reading only"),
    ):
        zoo.guard.block(entry_id)


def test_blocked_hash_is_not_added_until_it_is_taken_off(tmp_path):
    (entry_id,) = fill_zoo(tmp_path / "zoo", 1)
    with Zoo.open(tmp_path / "zoo") as zoo:
        zoo.guard.block(entry_id, "known backdoor")
        assert zoo.verify().blocked == (entry_id,)
        zoo.remove(entry_id)
        with pytest.raises(ZooError, match=r"is on the block-list of `.*` \(known backdoor\)"):
            zoo.add(zoo_adapter(0), zoo_info("task0"))
        zoo.guard.unblock(entry_id)
        assert zoo.add(zoo_adapter(0), zoo_info("task0")).id == entry_id


def test_forgotten_entry_leaves_no_word_on_the_disk(tmp_path):
    with Zoo.open(tmp_path / "zoo", create=True) as zoo:
        info = zoo_info("task", descriptions=("the secret of Mrs. Miller",))
        entry = zoo.add(zoo_adapter(0), info)
        zoo.add(zoo_adapter(1), zoo_info("other"))
        before = zoo.generation()
        assert zoo.guard.forget(entry.id)
        assert zoo.generation() > before  # so that every derived index is made anew
        assert [found.task for found in zoo.entries()] == ["other"]
    files = [path for path in (tmp_path / "zoo").rglob("*") if path.is_file()]
    assert not any(b"Mrs. Miller" in path.read_bytes() for path in files)
    assert not any(entry.id in str(path) for path in files)


def test_forgetting_that_was_cut_off_is_finished_by_the_next_writer(tmp_path, monkeypatch):
    ids = fill_zoo(tmp_path / "zoo", 2)
    with Zoo.open(tmp_path / "zoo") as zoo, monkeypatch.context() as patch:
        patch.setattr(zoo.folders, "discard", lambda entry_id: False)
        assert not zoo.guard.forget(ids[0])
    with Zoo.open(tmp_path / "zoo") as zoo:
        assert f"removed the folder of `{ids[0]}`" in zoo.repairs[0]
        assert (zoo.ids(), zoo.verify().orphaned) == ([ids[1]], ())


def test_forgetting_says_when_a_reader_keeps_words_of_the_entry_alive(tmp_path):
    ids = fill_zoo(tmp_path / "zoo", 2)
    with Zoo.open(tmp_path / "zoo", read_only=True) as reader, Zoo.open(tmp_path / "zoo") as zoo:
        zoo._catalog._connection.execute("PRAGMA busy_timeout=50")
        cursor = reader._catalog._connection.execute("SELECT id FROM entries")
        cursor.fetchone()  # a statement that is not finished holds what it reads
        assert not zoo.guard.forget(ids[0])
        cursor.close()
        assert zoo.ids() == [ids[1]]


def test_damaged_entry_can_be_forgotten_and_added_again(tmp_path):
    ids = fill_zoo(tmp_path / "zoo", 2)
    with Zoo.open(tmp_path / "zoo") as zoo:
        change = "UPDATE entries SET task = 'tbsk0' WHERE id = ?"
        zoo._catalog.write(lambda c: c.execute(change, (ids[0],)))
        assert zoo.verify().catalog == (f"the row of `{ids[0]}` differs from its digest",)
        with pytest.raises(ZooError, match=f"damaged row for `{ids[0]}`.*forget the entry"):
            zoo.get(ids[0])
        zoo.guard.forget(zoo.guard.find_id(ids[0][:12]))
        zoo.add(zoo_adapter(0), zoo_info("task0"))
        assert zoo.verify().ok


def test_trained_on_finds_who_names_the_entry_and_who_used_the_zoo(tmp_path):
    for name, parents in (("a", ["zoo:1"]), ("b", ["1"]), ("c", ["zoo:2"]), ("d", "broken")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text(json.dumps({"parents": parents}))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text(f"task:\n  zoo: {tmp_path / 'zoo'}\n")
    (tmp_path / "c" / "recipe.yaml").write_text("task:\n  zoo: elsewhere\n")
    found = trained_on("1", tmp_path / "zoo", [tmp_path])
    exact, whole = "learned from it", "learned from this zoo"
    assert found == {
        str(tmp_path / "a"): exact,
        str(tmp_path / "b"): exact,
        str(tmp_path / "run"): whole,
    }
    with pytest.raises(ZooError, match=r"`.*nowhere` is not a folder\. Name where generators"):
        trained_on("1", tmp_path / "zoo", [tmp_path / "nowhere"])
