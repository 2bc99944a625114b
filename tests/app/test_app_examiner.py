"""Uploads are examined in a process of its own, which may end without the app."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.load_setup import bad_uploads
from app.service.examiner import Examiner
from app.service.service import AppService
from app.service.sessions import OwnAdapter, Session
from app.service.uploads import receive_adapter
from app.settings import AppConfig
from lora_gen.adapter.io import load_adapter
from lora_gen.errors import AdapterFormatError, AdapterLimitError, LoraGenError
from lora_gen.zoo.store import Zoo


@pytest.fixture(scope="module")
def config(app_zoo: Path) -> AppConfig:
    return AppConfig(zoo=app_zoo)


@pytest.fixture(scope="module")
def examiner(config: AppConfig) -> Iterator[Examiner]:
    made = Examiner(config)
    made.start()
    yield made
    made.close()


@pytest.fixture(scope="module")
def uploaded(app_zoo: Path) -> Path:
    with Zoo.open(app_zoo, read_only=True) as zoo:
        return zoo.folders.path_of(zoo.entries()[5].id)


def _session(folder: Path, uploaded: Path) -> Session:
    session, adapter = Session(folder), load_adapter(uploaded)
    own = OwnAdapter(id="u", title="mine", adapter=adapter, folder=uploaded, source="uploaded")
    session.keep(own)
    return session


def test_examiner_finds_what_the_app_itself_finds(
    config: AppConfig, examiner: Examiner, uploaded: Path, tmp_path: Path
) -> None:
    session = _session(tmp_path, uploaded)
    (theirs, near), (ours, same) = (
        AppService(config, one).inspect(session, "u") for one in (examiner, None)
    )
    assert theirs == ours
    assert near[0].entry.id == uploaded.name or near[0].cosine == pytest.approx(1.0)
    assert near == same


def test_examiner_says_what_is_wrong(examiner: Examiner, tmp_path: Path) -> None:
    with pytest.raises(AdapterFormatError):
        examiner.examine(tmp_path / "gone", "an upload")


def test_examiner_that_was_ended_starts_anew(examiner: Examiner, uploaded: Path) -> None:
    assert examiner.pid is not None
    before = examiner.pid
    os.kill(before, 9)
    while os.waitid(os.P_PID, before, os.WEXITED | os.WNOWAIT) is None:
        pass
    assert examiner.examine(uploaded, "an upload").inspection.fits_base
    assert examiner.pid != before


def test_upload_that_takes_too_long_ends_the_process_alone(
    config: AppConfig, uploaded: Path
) -> None:
    hasty = Examiner(config, seconds=0.0)
    with pytest.raises(AdapterLimitError, match="took more than 0 s or too much memory"):
        hasty.examine(uploaded, "an upload")
    assert hasty.pid is None


@pytest.mark.parametrize("number", range(10))
def test_bad_uploads_of_the_load_are_refused(number: int, tmp_path: Path) -> None:
    uploads = bad_uploads()
    assert len(uploads) == 10
    file = tmp_path / "adapter.zip"
    file.write_bytes(uploads[number])
    with pytest.raises(LoraGenError):
        receive_adapter([str(file)], tmp_path / "into")
