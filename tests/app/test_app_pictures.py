"""A base that draws: pictures in Try, a Diffusers folder to take home."""

import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from picture_factories import picture_base, random_picture_adapters

from app.service.candidates import Keeper
from app.service.generation import GenerateRequest, Sampled
from app.service.service import AppService
from app.service.sessions import OwnAdapter, Session
from app.settings import AppConfig
from app.tabs.trial import trial
from lora_gen import load_adapter

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def service() -> AppService:
    return AppService(AppConfig(bases=(str(picture_base()),)))


@pytest.fixture
def drawn(tmp_path: Path) -> tuple[Session, str]:
    """A session and the id of an adapter in it."""
    session = Session(tmp_path / "session")
    adapter = replace(random_picture_adapters(1)[0], base=str(picture_base()))
    new, folder = session.new_folder()
    session.keep(
        OwnAdapter(id=new, title="style", adapter=adapter, folder=folder, source="generated")
    )
    return session, new


def test_trial_of_a_base_that_draws_shows_its_picture_beside_that_of_the_adapter(
    service: AppService, drawn: tuple[Session, str]
) -> None:
    session, new = drawn
    *_, first, markup = trial(service, session, [new], "a red <b> circle\na star")
    assert (first.count("<img"), markup.count("<img")) == (2, 4)
    assert "data:image/png;base64,iVBOR" in markup
    assert "&lt;b&gt;" in markup


def test_candidate_of_a_base_that_draws_is_a_diffusers_folder(
    service: AppService, tmp_path: Path
) -> None:
    base = str(picture_base())
    request = GenerateRequest(description="a style", base=base)
    keeper = Keeper(service.models, service.quality, lambda _: service.zoo)
    made = Sampled(adapters=tuple(random_picture_adapters(1)), records=({"base": base},))
    session = Session(tmp_path / "session")
    (candidate,) = keeper.keep(session, request, made, threading.Event())
    with zipfile.ZipFile(candidate.zip) as archive:
        archive.extractall(tmp_path / "home")
    (folder,) = (tmp_path / "home").iterdir()
    assert (folder / "pytorch_lora_weights.safetensors").is_file()
    assert load_adapter(folder).pairs.keys() == candidate.own.adapter.pairs.keys()
