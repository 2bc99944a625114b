"""The catalog's file: shipped, read-only, foreign or from another version."""

import os
import sqlite3
import tempfile
from pathlib import Path

import pytest
from zoo_factories import fill_zoo, start_python, zoo_adapter, zoo_info

from lora_gen.errors import ZooError
from lora_gen.zoo.store import Zoo


def tree(folder):
    return {
        path.relative_to(folder): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in folder.rglob("*")
    }


def test_shipped_zoo_is_read_without_leaving_a_trace(tmp_path):
    ids = fill_zoo(tmp_path / "zoo")
    with Zoo.open(tmp_path / "zoo") as zoo:
        zoo.checkpoint()
    before = tree(tmp_path / "zoo")
    assert Path("catalog.sqlite-wal") not in before
    with Zoo.open(tmp_path / "zoo", read_only=True) as zoo:
        assert (zoo.ids(), zoo.verify().ok) == (ids, True)
        assert tree(tmp_path / "zoo") == before
    assert tree(tmp_path / "zoo") == before


def test_checkpointed_zoo_takes_more_entries(tmp_path):
    ids = fill_zoo(tmp_path / "zoo", 1)
    with Zoo.open(tmp_path / "zoo") as zoo:
        zoo.checkpoint()
        added = zoo.add(zoo_adapter(8), zoo_info("later"))
        zoo.checkpoint()
        assert zoo.ids() == [*ids, added.id]
    header = (tmp_path / "zoo" / "catalog.sqlite").read_bytes()[18:20]
    assert header == b"\x01\x01"  # not write-ahead, SQLite file format 1.3


_READ = """
import os, sys
from lora_gen.zoo.store import Zoo
with Zoo.open(sys.argv[2]) as zoo:  # import all while the interpreter's files can still be read
    zoo.verify()
if os.geteuid() == 0:
    os.setuid(65534)
assert not os.access(sys.argv[1], os.W_OK)
with Zoo.open(sys.argv[1], read_only=True) as zoo:
    assert zoo.verify().ok
    print(len(zoo))
"""


@pytest.mark.parametrize("is_checkpointed", [True, False])
def test_zoo_is_read_where_nothing_can_be_written(is_checkpointed):
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        folder = Path(name) / "zoo"
        fill_zoo(folder)
        if is_checkpointed:
            with Zoo.open(folder) as zoo:
                zoo.checkpoint()
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        fill_zoo(Path(name) / "other", 1)
        output = start_python(_READ, folder, Path(name) / "other").communicate()[0]
        for path in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
            path.chmod(0o755)
        assert output == "3\n"


def test_folder_that_is_no_zoo_is_refused_and_left_alone(tmp_path):
    for read_only in (False, True):
        with pytest.raises(ZooError, match=r"is not a zoo: it has no `catalog\.sqlite`"):
            Zoo.open(tmp_path, read_only=read_only)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"not a database, but long enough to have a header" * 9])
def test_catalog_that_is_no_catalog_is_refused(tmp_path, content):
    fill_zoo(tmp_path / "zoo", 1)
    (tmp_path / "zoo" / "catalog.sqlite").write_bytes(content)
    for options in ({}, {"read_only": True}, {"create": True}):
        with pytest.raises(ZooError, match=r"catalog\.sqlite"):
            Zoo.open(tmp_path / "zoo", **options)


def test_catalog_of_a_newer_version_is_refused(tmp_path):
    fill_zoo(tmp_path / "zoo", 1)
    connection = sqlite3.connect(tmp_path / "zoo" / "catalog.sqlite")
    connection.execute("PRAGMA user_version=3")
    connection.close()
    with pytest.raises(ZooError, match="has schema 3, and this version reads schema 1 to 2"):
        Zoo.open(tmp_path / "zoo", read_only=True)


def test_adapters_without_a_catalog_are_never_adopted_silently(tmp_path):
    fill_zoo(tmp_path / "zoo", 1)
    (tmp_path / "zoo" / "catalog.sqlite").unlink()
    with pytest.raises(ZooError, match=r"has adapters, but no `catalog\.sqlite`"):
        Zoo.open(tmp_path / "zoo", create=True)


def test_writer_uses_a_write_ahead_log_synced_at_every_commit(tmp_path):
    fill_zoo(tmp_path / "zoo", 1)
    with Zoo.open(tmp_path / "zoo") as zoo:
        read = zoo._catalog._connection.execute
        found = {
            name: read(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    full = 2
    assert found == {
        "journal_mode": "wal",
        "synchronous": full,
        "foreign_keys": 1,
        "busy_timeout": 5000,
    }
