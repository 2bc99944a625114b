from __future__ import annotations

import contextlib
import errno
import os

import pytest

from lora_gen import durable_folders
from lora_gen.errors import AdapterFormatError, OutputPathError, StorageError, ZooError
from lora_gen.files import (
    atomic_write_bytes,
    atomic_write_json,
    atomic_write_text,
    publish_folder,
    sha256_file,
    sweep_temp,
    verify_manifest,
)


def snapshot(folder):
    found = {}
    for path in sorted(folder.rglob("*")):
        found[path.relative_to(folder).as_posix()] = path.read_bytes() if path.is_file() else None
    return found


def publish(final, text="new", **options):
    with publish_folder(final, **options) as temp:
        (temp / "a.txt").write_text(text)
        (temp / "sub").mkdir()
        (temp / "sub" / "b.bin").write_bytes(b"\0\1")


def edit(folder, old, new):
    path = folder / "manifest.json"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


class FailingCall:
    """The k-th call of an `os` function fails; the others pass."""

    def __init__(self, function, at, number=errno.ENOSPC):
        self.function, self.left, self.number = function, at, number

    def __call__(self, *args, **kwargs):
        self.left -= 1
        if self.left == 0:
            raise OSError(self.number, os.strerror(self.number))
        return self.function(*args, **kwargs)


def test_writes_replace_content_and_leave_no_temp(tmp_path):
    path = tmp_path / "x.json"
    atomic_write_text(path, "old")
    atomic_write_json(path, {"b": 1, "a": "é"})
    assert path.read_text() == '{\n  "a": "é",\n  "b": 1\n}\n'
    assert os.listdir(tmp_path) == ["x.json"]


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_write_keeps_the_old_file_when_the_disk_refuses(tmp_path, monkeypatch, function):
    path = tmp_path / "x"
    atomic_write_bytes(path, b"old")
    monkeypatch.setattr(os, function, FailingCall(getattr(os, function), 1))
    with pytest.raises(StorageError, match=r"could not be written \(No space left on device\)"):
        atomic_write_bytes(path, b"new")
    assert snapshot(tmp_path) == {"x": b"old"}


def test_write_refuses_a_missing_folder(tmp_path):
    with pytest.raises(StorageError, match="No such file or directory"):
        atomic_write_bytes(tmp_path / "no" / "x", b"")


def test_published_folder_has_a_manifest_that_verifies(tmp_path):
    publish(tmp_path / "new" / "out", parents=("zoo:1",))
    manifest = verify_manifest(tmp_path / "new" / "out")
    assert set(manifest["files"]) == {"a.txt", "sub/b.bin"}
    entry = manifest["files"]["a.txt"]
    assert entry == {"sha256": sha256_file(tmp_path / "new" / "out" / "a.txt"), "size": 3}
    assert manifest["parents"] == ["zoo:1"]
    assert "torch" in manifest["tools"]
    assert os.listdir(tmp_path / "new") == ["out"]


def test_equal_content_publishes_equal_bytes(tmp_path):
    publish(tmp_path / "one")
    publish(tmp_path / "two")
    assert snapshot(tmp_path / "one") == snapshot(tmp_path / "two")


def test_error_in_the_block_publishes_nothing(tmp_path):
    def interrupted():
        with publish_folder(tmp_path / "out") as temp:
            (temp / "a").write_text("x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert os.listdir(tmp_path) == []


def test_overwrite_swaps_folders(tmp_path):
    publish(tmp_path / "out", "old")
    publish(tmp_path / "out", "new", overwrite=True)
    assert (tmp_path / "out" / "a.txt").read_text() == "new"
    assert os.listdir(tmp_path) == ["out"]


def test_overwrite_moves_aside_where_names_cannot_be_exchanged(tmp_path, monkeypatch):
    monkeypatch.setattr(durable_folders, "_exchange", lambda left, right: False)
    publish(tmp_path / "out", "old")
    publish(tmp_path / "out", "new", overwrite=True)
    assert (tmp_path / "out" / "a.txt").read_text() == "new"
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("at", range(1, 8))
@pytest.mark.parametrize("overwrite", [False, True])
def test_failed_sync_leaves_the_previous_state(tmp_path, monkeypatch, at, overwrite):
    final = tmp_path / "out"
    if overwrite:
        publish(final, "old")
    before = snapshot(tmp_path)
    failing = FailingCall(os.fsync, at, errno.EIO)
    monkeypatch.setattr(os, "fsync", failing)
    with contextlib.suppress(StorageError):
        publish(final, overwrite=overwrite)
    failed = failing.left <= 0
    assert (snapshot(tmp_path) == before) is failed


def test_publish_refuses_an_existing_folder(tmp_path):
    publish(tmp_path / "out", "old")
    with pytest.raises(OutputPathError, match=r"exists already. Choose another output, or allow"):
        publish(tmp_path / "out")
    assert (tmp_path / "out" / "a.txt").read_text() == "old"


def test_publish_refuses_a_file_and_a_link(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(OutputPathError, match="is a file, and the output is a folder"):
        publish(tmp_path / "file", overwrite=True)
    with pytest.raises(OutputPathError, match="is a symbolic link, which is never replaced"):
        publish(tmp_path / "link", overwrite=True)


def test_publish_refuses_a_folder_that_is_not_ours(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("cat")
    with pytest.raises(OutputPathError, match="so it is not an adapter of ours to overwrite"):
        publish(tmp_path / "photos", overwrite=True)
    assert snapshot(tmp_path / "photos") == {"cat.jpg": b"cat"}


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda folder: (folder / "a.txt").write_text("nex"), "`a.txt` .* differs from its"),
        (lambda folder: (folder / "a.txt").unlink(), "`a.txt` is missing"),
        (lambda folder: (folder / "c").touch(), "`c` is not in the manifest"),
        (lambda folder: (folder / "manifest.json").write_text("{}"), "lists no files"),
        (lambda folder: (folder / "manifest.json").unlink(), "cannot be read"),
        (lambda folder: edit(folder, '"parents": [],', '"parents": ["x"],'), "from its digest"),
        (lambda folder: edit(folder, '"digest":', '"dighst":'), "from its digest"),
    ],
)
def test_manifest_finds_damage(tmp_path, damage, sentence):
    publish(tmp_path / "out")
    damage(tmp_path / "out")
    with pytest.raises(AdapterFormatError, match=sentence):
        verify_manifest(tmp_path / "out")
    with pytest.raises(ZooError, match=sentence):
        verify_manifest(tmp_path / "out", error=ZooError)


def test_manifest_without_a_digest_is_from_an_older_version(tmp_path):
    publish(tmp_path / "out")
    manifest = verify_manifest(tmp_path / "out")
    del manifest["digest"]
    atomic_write_json(tmp_path / "out" / "manifest.json", manifest)
    assert verify_manifest(tmp_path / "out") == manifest


def test_interrupted_swap_is_undone_or_finished(tmp_path):
    publish(tmp_path / "out", "old")
    aside = durable_folders.aside_of(tmp_path / "out")
    os.rename(tmp_path / "out", aside)
    sweep_temp(tmp_path)
    assert (tmp_path / "out" / "a.txt").read_text() == "old"
    os.rename(tmp_path / "out", aside)
    publish(tmp_path / "out", "new", overwrite=True)
    assert (tmp_path / "out" / "a.txt").read_text() == "new"
    assert os.listdir(tmp_path) == ["out"]


def test_new_parents_are_durable_from_the_first_down(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(durable_folders, "sync_folder", synced.append)
    durable_folders.make_folder(tmp_path / "a" / "b" / "c")
    assert synced == [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]


def test_sweep_removes_only_what_a_writer_left(tmp_path):
    (tmp_path / ".tmp-1").mkdir()
    (tmp_path / ".tmp-2").write_text("x")
    publish(tmp_path / "out")
    assert sweep_temp(tmp_path) == [".tmp-1", ".tmp-2"]
    assert os.listdir(tmp_path) == ["out"]
