"""Sentences before and after a lens in the app, without its page."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from app.pictures.lens import lens_maps, neighbors
from app.service import lens
from app.service.sessions import Session, Sessions
from lora_gen import load_adapter
from lora_gen.adapter.adapter import Adapter
from lora_gen.assets import asset_path
from lora_gen.errors import BaseModelError, LoraGenError
from lora_gen.evaluation.lens_fitting import initial_factors, lens_adapter

LINES = "The server is down\nNo rush at all\n<b>Call</b> me ${now}\nSome day, perhaps"


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Sessions(tmp_path).get("visitor")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Adapter:
    """The lens that a stand-in for the generator makes."""
    spec = lens._reader().embedder.spec
    random = torch.Generator().manual_seed(0)
    factors = {
        name: (a, torch.randn(b.shape, generator=random) * 0.05)
        for name, (a, b) in initial_factors(spec, [0], 4).items()
    }
    adapter = lens_adapter(factors, 0, spec)
    monkeypatch.setattr(lens, "_made", lambda text, names: (adapter, {"text": text}, "Made."))
    monkeypatch.setattr(lens, "is_at_hand", lambda: True)
    return adapter


def _look(session: Session, **changes: Any) -> lens.Look:
    given = {"description": "by urgency", "sentences": LINES, "labels": "now, later", "query": ""}
    return lens.look(session, *(given | changes).values())


def test_a_look_has_both_sides_of_every_sentence(session: Session, made: Adapter) -> None:
    found = _look(session)
    for side in (found.base, found.lens):
        assert len(side.places) == len(side.labels) == 4
        assert {*side.labels} <= {"now", "later"}
        assert [cosine for _, cosine in side.nearest] == sorted(
            (cosine for _, cosine in side.nearest), reverse=True
        )
        assert found.query not in dict(side.nearest)
    assert found.base.nearest != found.lens.nearest


def test_the_lens_can_be_taken_home(session: Session, made: Adapter, tmp_path: Path) -> None:
    found = _look(session)
    zipfile.ZipFile(found.zip).extractall(tmp_path / "out")
    (folder,) = (tmp_path / "out").iterdir()
    assert set(load_adapter(folder).pairs) == set(made.pairs)
    assert session.get(found.own.id) is found.own


def test_pictures_escape_what_a_visitor_wrote(session: Session, made: Adapter) -> None:
    found = _look(session, query="what burns?")
    markup = "".join((*lens_maps(found), neighbors(found)))
    assert markup.count("<circle") == 8
    assert "<b>" not in markup
    assert "${" not in markup


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"description": " "}, "The description is empty"),
        ({"sentences": "one\none"}, "`sentences` has 1 different lines"),
        ({"sentences": "\n".join(map(str, range(65)))}, "`sentences` has 65 rows"),
        ({"labels": ", ,"}, "`labels` is empty"),
        ({"labels": "a,b,c,d,e,f,g"}, "`labels` has 7 rows"),
    ],
)
def test_unusable_values_are_refused_by_a_sentence(
    session: Session, made: Adapter, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(LoraGenError, match=sentence):
        _look(session, **changes)


def test_without_the_base_the_page_says_what_to_install(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lens, "is_at_hand", lambda: False)
    with pytest.raises(BaseModelError, match=r'Run `pip install "lora_gen\[demo\]"`'):
        _look(session)


def test_without_a_generator_the_nearest_trained_lens_is_taken(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        lens, "_place", lambda part: asset_path("minilm", part.replace("gen", "no"))
    )
    found = _look(session, description="sort my mails by how polite they are")
    assert found.own.record["nearest"] == "politeness.politeness"
    assert "trained lenses" in found.sentence
