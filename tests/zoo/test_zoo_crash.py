"""Kills, damage, a full disk and two writers."""

import errno
import itertools
import multiprocessing
import os
import shutil
import time
from functools import partial

import pytest
from zoo_factories import fill_zoo, start_python, zoo_adapter, zoo_info

from lora_gen.errors import LockedError, StorageError, ZooError
from lora_gen.zoo.store import Zoo

_ADD_FOREVER = """
import sys
from zoo_factories import zoo_adapter, zoo_info
from lora_gen.zoo.store import Zoo
first = int(sys.argv[2])
with Zoo.open(sys.argv[1], create=True) as zoo:
    for seed in range(first, first + 1000):
        entry = zoo.add(zoo_adapter(seed), zoo_info(f"task{seed}"))
        print("added", entry.id, flush=True)
        if seed % 3 == 2:
            print("removing", entry.id, flush=True)
            zoo.remove(entry.id)
            print("removed", entry.id, flush=True)
"""
_VERBS = ("added", "removing", "removed")


@pytest.mark.parametrize("lines_read", [3, 7, 11])
def test_zoo_keeps_what_it_acknowledged_when_killed(tmp_path, lines_read):
    kept = fill_zoo(tmp_path / "zoo", 1)
    child = start_python(_ADD_FOREVER, tmp_path / "zoo", 1)
    lines = [child.stdout.readline() for _ in range(lines_read)]
    time.sleep(0.001 * lines_read)
    child.kill()
    lines += child.communicate()[0].splitlines(keepends=True)
    words = [line.split() for line in lines if line.endswith("\n")]
    said = {verb: {entry_id for v, entry_id in words if v == verb} for verb in _VERBS}
    with Zoo.open(tmp_path / "zoo") as zoo:
        assert zoo.verify().ok
        assert {*kept, *said["added"]} - said["removing"] <= set(zoo.ids())
        assert not said["removed"] & set(zoo.ids())
    assert not list((tmp_path / "zoo").rglob(".tmp-*"))


_STEPS = ("fsync", "rename", "replace", "mkdir", "unlink", "rmdir")


def run_failing(change, folder, number, failure):
    """Run `change`, with `failure` in place of its step `number` on the disk; returns the steps."""
    count = itertools.count(1)
    steps = []

    def patched(real):
        def step(*args, **options):
            if real.__name__ == "mkdir" and os.path.isdir(args[0]):
                return real(*args, **options)  # changes nothing, so there is nothing to refuse
            steps.append(real.__name__)
            return failure() if next(count) == number else real(*args, **options)

        return step

    with pytest.MonkeyPatch.context() as patch:
        for name in _STEPS:
            patch.setattr(os, name, patched(getattr(os, name)))
        change(folder)
    return len(steps)


def add_one(folder):
    with Zoo.open(folder) as zoo:
        zoo.add(zoo_adapter(7), zoo_info("new"))


def remove_first(folder):
    with Zoo.open(folder) as zoo:
        zoo.remove(zoo.ids()[0])


def ids_after_repair(folder):
    """What a new writer finds, after checking that all of it is whole."""
    with Zoo.open(folder) as zoo:
        assert zoo.verify().ok
        assert not list(folder.rglob(".tmp-*"))
        return zoo.ids()


@pytest.mark.parametrize(("change", "least"), [(add_one, 15), (remove_first, 4)])
def test_zoo_is_old_or_new_when_killed_at_any_step(tmp_path, change, least):
    fill_zoo(tmp_path / "old", 1)
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    steps = run_failing(change, tmp_path / "new", 0, None)
    states = [ids_after_repair(tmp_path / name) for name in ("old", "new")]
    assert steps >= least
    for number in range(1, steps + 1):
        folder = tmp_path / f"cut{number}"
        shutil.copytree(tmp_path / "old", folder)
        arguments = (change, folder, number, partial(os._exit, 9))
        child = multiprocessing.get_context("fork").Process(target=run_failing, args=arguments)
        child.start()
        child.join()
        assert child.exitcode == 9
        assert ids_after_repair(folder) in states


def test_zoo_is_untouched_when_the_disk_refuses_any_step(tmp_path):
    kept = fill_zoo(tmp_path / "zoo", 1)
    shutil.copytree(tmp_path / "zoo", tmp_path / "new")
    steps = run_failing(add_one, tmp_path / "new", 0, None)
    for number in range(1, steps + 1):
        folder = tmp_path / f"full{number}"
        shutil.copytree(tmp_path / "zoo", folder)
        with pytest.raises(StorageError, match="No space left on device"):
            run_failing(add_one, folder, number, refuse)
        with Zoo.open(folder) as zoo:
            assert (zoo.ids(), zoo.verify().orphaned, zoo.repairs) == (kept, (), ())
            assert zoo.add(zoo_adapter(7), zoo_info("new")).id in zoo.ids()


def test_full_disk_keeps_nobody_from_removing(tmp_path, monkeypatch):
    ids = fill_zoo(tmp_path / "zoo", 2)
    for name in ("pwrite", "ftruncate"):  # the holder's name does not fit on the disk either
        monkeypatch.setattr(os, name, lambda *arguments: refuse())
    with Zoo.open(tmp_path / "zoo") as zoo:
        zoo.remove(ids[0])
    with Zoo.open(tmp_path / "zoo") as zoo:
        assert zoo.ids() == [ids[1]]


def refuse():
    raise OSError(errno.ENOSPC, "No space left on device")


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
    child = start_python(_ADD_FOREVER, tmp_path / "zoo", 1)
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


def test_reader_is_told_when_an_entry_goes_while_it_is_read(tmp_path, monkeypatch):
    ids = fill_zoo(tmp_path / "zoo", 1)
    with Zoo.open(tmp_path / "zoo") as writer, Zoo.open(tmp_path / "zoo", read_only=True) as reader:
        exists = reader.folders.has

        def removed_meanwhile(entry_id):
            found = exists(entry_id)
            writer.remove(entry_id)
            return found

        monkeypatch.setattr(reader.folders, "has", removed_meanwhile)
        with pytest.raises(ZooError, match=f"`{ids[0]}` is not in"):
            reader.load(ids[0])


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
        zoo._catalog.write(lambda c: c.execute("DELETE FROM entries WHERE id = ?", (ids[0],)))
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


def test_file_that_cannot_be_read_is_damage(tmp_path, monkeypatch):
    ids = fill_zoo(tmp_path / "zoo", 2)

    def unreadable(path):
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr("lora_gen.files.sha256_file", unreadable)
    with Zoo.open(tmp_path / "zoo") as zoo:
        report = zoo.verify()
    assert [entry_id for entry_id, _ in report.damaged] == ids
    assert "Input/output error" in report.damaged[0][1]


def test_missing_folder_is_found(tmp_path):
    ids = fill_zoo(tmp_path / "zoo")
    shutil.rmtree(tmp_path / "zoo" / "adapters" / ids[2][:2] / ids[2])
    with Zoo.open(tmp_path / "zoo", read_only=True) as zoo:
        assert zoo.verify().missing == (ids[2],)
        with pytest.raises(ZooError, match=rf"`{ids[2]}` .* lost its folder"):
            zoo.load(ids[2])
