from pathlib import Path

import pytest

from lora_gen.errors import ZooError
from lora_gen.zoo import disk
from lora_gen.zoo.store import Zoo

MOUNTS = """\
overlay / overlay rw 0 0
server:/home {home} nfs4 rw 0 0
tmpfs {home}/my\\040disk/scratch tmpfs rw 0 0
"""


@pytest.fixture
def mounts(tmp_path):
    path = tmp_path / "mounts"
    path.write_text(MOUNTS.format(home=tmp_path / "home"))
    return path


def test_network_disk_is_refused_by_name(tmp_path, mounts):
    sentence = r"`.*zoo` is on a network disk \(nfs4\), where another machine could write too\."
    with pytest.raises(ZooError, match=sentence):
        disk.require_local(tmp_path / "home" / "me" / "zoo", mounts)


@pytest.mark.parametrize("name", ["elsewhere/zoo", "home/my disk/scratch/zoo", "homestead"])
def test_local_disk_is_the_one_mounted_last(tmp_path, mounts, name):
    disk.require_local(tmp_path / name, mounts)


def test_disk_is_taken_for_local_where_the_system_lists_no_mounts(tmp_path):
    disk.require_local(tmp_path, Path("/nowhere/mounts"))


def test_zoo_on_a_network_disk_is_not_made(tmp_path, mounts, monkeypatch):
    monkeypatch.setattr(disk.require_local, "__defaults__", (mounts,))
    (tmp_path / "home").mkdir()
    with pytest.raises(ZooError, match="is on a network disk"):
        Zoo.open(tmp_path / "home" / "zoo", create=True)
    assert list((tmp_path / "home").iterdir()) == []
