"""Zoos of older versions: read as they are, brought up to date by a writer, whole after a kill."""

import os
import shutil
import sqlite3

import pytest
from zoo_factories import zoo_adapter, zoo_info

from lora_gen.zoo import catalog
from lora_gen.zoo.schema import SCHEMA, upgrade
from lora_gen.zoo.store import Zoo
from tests.crash.old_catalog import make_old_zoo


def version_of(folder):
    connection = sqlite3.connect(folder / "catalog.sqlite")
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    connection.close()
    return found


def test_old_zoo_is_read_without_being_changed(tmp_path):
    ids = make_old_zoo(tmp_path / "zoo", 2)
    with Zoo.open(tmp_path / "zoo", read_only=True) as zoo:
        assert (zoo.ids(), [entry.task for entry in zoo.entries()]) == (ids, ["task0", "task1"])
        assert (zoo.guard.blocked(), zoo.guard.quarantined()) == ({}, {})
        assert zoo.verify().ok
    assert version_of(tmp_path / "zoo") == 1


def test_old_zoo_is_brought_up_to_date_by_a_writer(tmp_path):
    ids = make_old_zoo(tmp_path / "zoo", 2)
    with Zoo.open(tmp_path / "zoo", read_only=True) as zoo:
        before = [entry.to_dict() for entry in zoo.entries()]
    with Zoo.open(tmp_path / "zoo") as zoo:
        assert [entry.to_dict() for entry in zoo.entries()] == before
        assert zoo.generation() == 7
        assert "which had been taken out" in zoo.repairs[0]  # what the old version had left
        assert (zoo.verify().ok, zoo.verify().orphaned) == (True, ())
        added = zoo.add(zoo_adapter(9), zoo_info("new"))
        assert zoo.ids() == [*ids, added.id]
    assert version_of(tmp_path / "zoo") == SCHEMA


def test_reader_goes_on_while_a_writer_brings_the_zoo_up_to_date(tmp_path):
    ids = make_old_zoo(tmp_path / "zoo", 2)
    with Zoo.open(tmp_path / "zoo", read_only=True) as reader, Zoo.open(tmp_path / "zoo") as writer:
        assert reader.ids() == ids
        writer.guard.quarantine(ids[0], "suspect")
        assert reader.ids() == [ids[1]]


@pytest.mark.parametrize("at", range(1, 9))
def test_old_zoo_is_still_old_when_killed_while_it_is_brought_up_to_date(tmp_path, at):
    make_old_zoo(tmp_path / "zoo", 2)
    child = os.fork()
    if child == 0:
        _die_at_statement(tmp_path / "zoo", at)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    shutil.copytree(tmp_path / "zoo", tmp_path / "copy")
    assert version_of(tmp_path / "copy") == 1
    with Zoo.open(tmp_path / "zoo") as zoo:
        assert (len(zoo), zoo.verify().ok) == (2, True)


def _die_at_statement(folder, at):
    def dying(execute):
        count = 0

        def counted(*arguments):
            nonlocal count
            count += 1
            return os._exit(9) if count == at else execute(*arguments)

        upgrade(counted)

    catalog.upgrade = dying
    Zoo.open(folder)
    os._exit(1)
