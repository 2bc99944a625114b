"""What Gradio leaves in its folder for ever goes with the next upload: the soak found it."""

import os
import time
from pathlib import Path

from app.temporary import TemporaryRoom


def _room(work: Path) -> TemporaryRoom:
    return TemporaryRoom(work, close_oldest=lambda: False, young=60)


def _old(path: Path) -> Path:
    os.utime(path, (time.time() - 100,) * 2)
    return path


def test_empty_files_and_folders_of_old_uploads_go(tmp_path: Path) -> None:
    folder = tmp_path / "gradio"
    (folder / ("ab" * 32)).mkdir(parents=True)
    (folder / "tmpabc").touch()
    for path in folder.iterdir():
        _old(path)
    assert _room(tmp_path).make(1)
    assert list(folder.iterdir()) == []


def test_everything_that_may_be_in_use_stays(tmp_path: Path) -> None:
    folder = tmp_path / "gradio"
    full = folder / ("cd" * 32)
    full.mkdir(parents=True)
    (full / "adapter.zip").write_bytes(b"PK")
    (folder / "tmp_being_written").write_bytes(b"PK")
    (folder / "tmp_new").touch()
    (folder / "history").mkdir()
    for name in (full.name, "tmp_being_written", "history"):
        _old(folder / name)
    before = sorted(folder.rglob("*"))
    assert _room(tmp_path).make(1)
    assert sorted(folder.rglob("*")) == before
