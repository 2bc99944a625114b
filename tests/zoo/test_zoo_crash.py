"""Kills, damage, two writers and disks that cannot be written."""

import multiprocessing
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from zoo_factories import fill_zoo, zoo_adapter, zoo_info

from lora_gen.errors import LockedError, ZooError
from lora_gen.zoo.store import Zoo

_ADD_FOREVER = """
import sys
from zoo_factories import zoo_adapter, zoo_info
from lora_gen.zoo.store import Zoo
first = int(sys.argv[2])
with Zoo.open(sys.argv[1], create=True) as zoo:
    for seed in range(first, first + 1000):
        entry = zoo.add(zoo_adapter(seed), zoo_info(f"task{seed}"))
        print(entry.id, flush=True)
        if seed % 5 == 4:
            zoo.remove(entry.id)
            print("-" + entry.id, flush=True)
"""


def start(script, *arguments, **options):
    path = os.pathsep.join(str(folder) for folder in (Path.cwd(), Path.cwd() / "tests"))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, **options)


def acknowledged(lines):
    """Ids that were added and not removed; a removal that was cut off may have gone either way."""
    words = [line.strip() for line in lines]
    removed = {word[1:] for word in words if word.startswith("-")}
    return [word for word in words if len(word) == 40 and word not in removed], removed


@pytest.mark.parametrize("round_number", range(3))
def test_zoo_keeps_what_it_acknowledged_when_killed(tmp_path, round_number):
    kept = fill_zoo(tmp_path / "zoo", 1)
    child = start(_ADD_FOREVER, tmp_path / "zoo", 1)
    lines = [child.stdout.readline() for _ in range(3 + 4 * round_number)]
    time.sleep(0.013 * round_number)
    child.send_signal(signal.SIGKILL)
    lines += child.communicate()[0].splitlines(keepends=True)
    added, removed = acknowledged(line for line in lines if line.endswith("\n"))
    with Zoo.open(tmp_path / "zoo") as zoo:
        report, live = zoo.verify(), set(zoo.ids())
        assert report.ok, report
        # The last one may have been in the middle of its own removal.
        assert {*kept, *added[:-1]} <= live
        assert not removed & live
        assert not list((tmp_path / "zoo").rglob(".tmp-*"))


def test_second_writer_is_told_who_holds_the_zoo(tmp_path):
    fill_zoo(tmp_path / "zoo", 1)
    sentence = rf"is being written by process {os.getpid()} on .+ since 20.+ Wait until it is done"
    with Zoo.open(tmp_path / "zoo") as zoo:
        with pytest.raises(LockedError, match=sentence):
            Zoo.open(tmp_path / "zoo")
        zoo.add(zoo_adapter(5), zoo_info("still works"))
    Zoo.open(tmp_path / "zoo").close()


def test_lock_dies_with_its_process(tmp_path):
    fill_zoo(tmp_path / "zoo", 1)
    child = start(_ADD_FOREVER, tmp_path / "zoo", 1)
    child.stdout.readline()
    with pytest.raises(LockedError, match=f"written by process {child.pid} on"):
        Zoo.open(tmp_path / "zoo")
    child.kill()
    child.communicate()
    Zoo.open(tmp_path / "zoo").close()


def test_reader_sees_a_writers_commits(tmp_path):
    ids = fill_zoo(tmp_path / "zoo", 1)
    with Zoo.open(tmp_path / "zoo") as writer, Zoo.open(tmp_path / "zoo", read_only=True) as reader:
        assert reader.ids() == ids
        added = writer.add(zoo_adapter(7), zoo_info("new"))
        assert reader.ids() == [*ids, added.id]
        assert reader.load(added.id).base == "tiny_lm"
        with pytest.raises(ZooError, match="is open for reading only"):
            reader.remove(added.id)


def test_reader_is_refused_in_a_forked_process(tmp_path):
    fill_zoo(tmp_path / "zoo", 1)
    with Zoo.open(tmp_path / "zoo", read_only=True) as zoo:
        context = multiprocessing.get_context("fork")
        queue = context.SimpleQueue()
        child = context.Process(target=_put_error_of, args=(zoo.ids, queue))
        child.start()
        child.join()
        assert "was opened in another process" in queue.get()


def _put_error_of(call, queue):
    try:
        queue.put(str(call()))
    except ZooError as error:
        queue.put(str(error))


def test_opening_sweeps_what_a_killed_writer_left(tmp_path):
    (entry_id,) = fill_zoo(tmp_path / "zoo", 1)
    adapters = tmp_path / "zoo" / "adapters"
    for folder in (adapters, adapters / entry_id[:2]):
        (folder / ".tmp-dead").mkdir()
        (folder / ".tmp-dead" / "half").write_bytes(b"x")
    with Zoo.open(tmp_path / "zoo") as zoo:
        assert zoo.repairs == ("removed the unfinished `.tmp-dead`",) * 2
        assert zoo.verify().orphaned == ()
        assert zoo.verify().ok


def test_opening_finishes_a_removal_that_was_cut_off(tmp_path):
    ids = fill_zoo(tmp_path / "zoo", 2)
    with Zoo.open(tmp_path / "zoo") as zoo:
        zoo._catalog.mark_removed(ids[0], "2026-01-01T00:00:00+00:00")
    with Zoo.open(tmp_path / "zoo") as zoo:
        assert f"removed the folder of `{ids[0]}`" in zoo.repairs[0]
        assert (zoo.ids(), zoo.verify().orphaned) == ([ids[1]], ())


def test_orphan_is_reported_and_adopted(tmp_path):
    ids = fill_zoo(tmp_path / "zoo", 2)
    with Zoo.open(tmp_path / "zoo") as zoo:
        zoo._catalog._write(lambda c: c.execute("DELETE FROM entries WHERE id = ?", (ids[0],)))
        report = zoo.verify()
        assert (report.ok, report.orphaned) == (True, (f"{ids[0][:2]}/{ids[0]}",))
        zoo.add(zoo_adapter(0), zoo_info("task0"))
        assert zoo.verify().orphaned == ()


@pytest.mark.parametrize(
    "name", ["adapter_config.json", "adapter_model.safetensors", "manifest.json"]
)
def test_one_flipped_bit_is_found_by_verify(tmp_path, name):
    ids = fill_zoo(tmp_path / "zoo")
    file = tmp_path / "zoo" / "adapters" / ids[1][:2] / ids[1] / name
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 0x10
    file.write_bytes(content)
    with Zoo.open(tmp_path / "zoo", read_only=True) as zoo:
        report = zoo.verify()
    assert [entry_id for entry_id, _ in report.damaged] == [ids[1]]
    assert (report.ok, report.missing, report.checked) == (False, (), 3)


def test_damaged_weights_are_never_served_and_adding_mends_them(tmp_path):
    (entry_id,) = fill_zoo(tmp_path / "zoo", 1)
    file = tmp_path / "zoo" / "adapters" / entry_id[:2] / entry_id / "adapter_model.safetensors"
    content = bytearray(file.read_bytes())
    content[-3] ^= 0x01
    file.write_bytes(content)
    with Zoo.open(tmp_path / "zoo") as zoo:
        with pytest.raises(ZooError, match=f"`{entry_id}` is damaged in the zoo.*add it again"):
            zoo.load(entry_id)
        zoo.add(zoo_adapter(0), zoo_info("task0"))
        assert zoo.verify().ok


def test_missing_folder_is_found(tmp_path):
    ids = fill_zoo(tmp_path / "zoo")
    shutil.rmtree(tmp_path / "zoo" / "adapters" / ids[2][:2] / ids[2])
    with Zoo.open(tmp_path / "zoo", read_only=True) as zoo:
        assert zoo.verify().missing == (ids[2],)
        with pytest.raises(ZooError, match=rf"`{ids[2]}` .* lost its folder"):
            zoo.load(ids[2])


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
        output = start(_READ, folder, Path(name) / "other").communicate()[0]
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
    connection.execute("PRAGMA user_version=2")
    connection.close()
    with pytest.raises(ZooError, match="has schema 2, and this version reads schema 1"):
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
