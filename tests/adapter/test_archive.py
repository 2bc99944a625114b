from __future__ import annotations

import zipfile

import pytest
from adapter_factories import raw_peft_folder

from lora_gen.adapter.archive import list_archive, read_archive
from lora_gen.adapter.io import load_adapter
from lora_gen.errors import AdapterLimitError, ArchiveError, OutputPathError, UnsafeFileError
from lora_gen.limits import Limits
from tests.corpus.zips import Member, adapter_members, write_zip


@pytest.fixture
def files(tmp_path):
    folder = raw_peft_folder(tmp_path / "source")
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("folder", ["", "my-adapter/", "a/b/"])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_archive_of_the_standard_library_gives_the_adapter(tmp_path, files, folder, method):
    with zipfile.ZipFile(tmp_path / "x.zip", "w", method) as archive:
        for name, data in files.items():
            archive.writestr(folder + name, data)
    into = read_archive(tmp_path / "x.zip", tmp_path / "into")
    assert {path.name: path.read_bytes() for path in into.iterdir()} == files
    assert load_adapter(into).max_rank == 2


def test_archive_with_descriptors_and_a_comment_is_read(tmp_path, files):
    class Pipe:
        def __init__(self, path):
            self.file = path.open("wb")

        def write(self, data):
            return self.file.write(data)

        def flush(self):
            self.file.flush()

    with zipfile.ZipFile(Pipe(tmp_path / "x.zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.comment = b"written to a pipe"
        for name, data in files.items():
            archive.writestr(name, data)
    assert load_adapter(read_archive(tmp_path / "x.zip", tmp_path / "into")).max_rank == 2


def test_archive_lists_what_it_ignores(tmp_path, files):
    extra = [Member(name=f"x/{name}", data=b"import os") for name in ("run.py", "a.so", "b.pkl")]
    path = write_zip(tmp_path / "x.zip", [*adapter_members(files, "x/"), *extra])
    listing = list_archive(path)
    assert listing.ignored == ("x/run.py", "x/a.so", "x/b.pkl")
    assert listing.read == tuple(sorted(files))
    assert {p.name for p in read_archive(path, tmp_path / "into").iterdir()} == set(files)


def test_archive_with_two_adapters_asks(tmp_path, files):
    members = [*adapter_members(files, "one/"), *adapter_members(files, "two/")]
    path = write_zip(tmp_path / "x.zip", members)
    with pytest.raises(ArchiveError, match=r"holds 2 adapters \(`one`, `two`\)\. Zip the one"):
        read_archive(path, tmp_path / "into")


def test_archive_with_only_a_pickle_is_unsafe(tmp_path, files):
    members = adapter_members({"adapter_config.json": files["adapter_config.json"]})
    path = write_zip(tmp_path / "x.zip", [*members, Member(name="adapter_model.bin", data=b"x")])
    with pytest.raises(UnsafeFileError, match=r"has only `adapter_model.bin`, which may be a pic"):
        read_archive(path, tmp_path / "into")


def test_archive_is_not_unpacked_over_what_is_there(tmp_path, files):
    path = write_zip(tmp_path / "x.zip", adapter_members(files))
    (tmp_path / "into").mkdir()
    (tmp_path / "into" / "mine").touch()
    with pytest.raises(OutputPathError, match="exists and is not an empty folder"):
        read_archive(path, tmp_path / "into")
    assert [p.name for p in (tmp_path / "into").iterdir()] == ["mine"]


@pytest.mark.parametrize("was_there", [False, True])
def test_archive_leaves_the_folder_as_it_was_when_a_member_is_damaged(tmp_path, files, was_there):
    members = adapter_members(files)
    members[-1].crc = 7
    path, into = write_zip(tmp_path / "x.zip", members), tmp_path / "into"
    if was_there:
        into.mkdir()
    with pytest.raises(ArchiveError, match="its checksum differs"):
        read_archive(path, into)
    assert into.exists() == was_there
    assert not was_there or list(into.iterdir()) == []


def test_archive_obeys_the_limits_it_is_given(tmp_path, files):
    path = write_zip(tmp_path / "x.zip", adapter_members(files))
    for limits, sentence in (
        (Limits(archive_members=1), "at most 1 members are read"),
        (Limits(archive_bytes=500), "at most 500 are"),
        (Limits(file_bytes=10), "at most 10 are read"),
    ):
        with pytest.raises(AdapterLimitError, match=sentence):
            read_archive(path, tmp_path / "into", limits=limits)
    assert not (tmp_path / "into").exists()
