"""Limits, sessions, uploads and drawings of the app, without its page."""

import argparse
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from app_factories import HOSTILE

from app.__main__ import config_of, parser
from app.pictures.heat_map import heat_map
from app.pictures.markup import element, render, table
from app.service import limits
from app.service.downloads import loading_code, zip_folder
from app.service.generation import GenerateRequest
from app.service.models import Models
from app.service.quality import Forecast, QualityPredictor
from app.service.search import Wanted
from app.service.sessions import MAX_ADAPTERS, OwnAdapter, Session, Sessions
from app.service.uploads import read_rows, receive_adapter
from app.service.zoo_view import MAX_FAMILIES, OTHERS, ZooView, _Frame
from app.settings import AppConfig
from lora_gen.adapter.adapter import Adapter, LoraPair
from lora_gen.adapter.base_model import BaseModelSpec
from lora_gen.adapter.io import save_adapter
from lora_gen.assets import asset_path
from lora_gen.errors import (
    AdapterFormatError,
    ConditionError,
    ConfigError,
    GeneratorError,
    LoraGenError,
)
from lora_gen.evaluation.behavior import TaskRunner
from lora_gen.zoo.store import Zoo


def _adapter() -> Adapter:
    pair = LoraPair(lora_a=torch.ones(2, 4), lora_b=torch.ones(3, 2))
    return Adapter(pairs={"model.layers.0.q_proj": pair}, base="tiny_lm", task_type="CAUSAL_LM")


def _own(session: Session, title: str = "t") -> OwnAdapter:
    new, folder = session.new_folder()
    folder.mkdir()
    return OwnAdapter(id=new, title=title, adapter=_adapter(), folder=folder, source="generated")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 9, 0, True, "3", None, [1]])
def test_whole_refuses_what_is_no_number_in_bounds(value: Any) -> None:
    with pytest.raises(GeneratorError, match="`steps` must be a number between 1 and 8"):
        limits.whole("steps", value, 1, 8)


def test_request_makes_numbers_of_a_browser_whole() -> None:
    request = GenerateRequest(description=" keep digits ", steps=4.0, seed=2.0)  # type: ignore[arg-type]
    assert (request.steps, request.seed, request.description) == (4, 2, "keep digits")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({}, "The description is empty"),
        ({"description": {"a": 1}}, "must be a string"),
        ({"description": "x", "targets": "lm_head"}, "`targets` must be one of"),
        ({"description": "x", "examples": (("a", ""),)}, "row 1 must have an input and an output"),
        ({"description": "x", "prompts": ("y" * 1001,)}, "1,001 characters"),
    ],
)
def test_bad_request_is_a_sentence(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(LoraGenError, match=sentence):
        GenerateRequest(**given)


def test_session_forgets_its_oldest_adapter_and_its_files(tmp_path: Path) -> None:
    session = Session(tmp_path / "s")
    made = [_own(session) for _ in range(MAX_ADAPTERS + 1)]
    for own in made:
        session.keep(own)
    assert [own.id for own in session.adapters()] == [own.id for own in reversed(made[1:])]
    assert not made[0].folder.exists()


def test_sessions_are_kept_apart_and_closed(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path)
    mine, other = sessions.get("one"), sessions.get("two")
    own = _own(mine)
    mine.keep(own)
    with pytest.raises(AdapterFormatError, match="is not an adapter of this visit"):
        other.get(own.id)
    sessions.close("one")
    assert not own.folder.exists()
    with mine.work() as cancelled:
        assert cancelled.is_set()


def test_session_without_a_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConditionError, match="The request has no session"):
        Sessions(tmp_path).get(None)


def test_uploaded_files_become_the_adapter(tmp_path: Path) -> None:
    folder = save_adapter(_adapter(), tmp_path / "a", exact=True)
    files = [str(folder / name) for name in ("adapter_config.json", "adapter_model.safetensors")]
    path, adapter = receive_adapter(files, tmp_path / "in")
    assert path == tmp_path / "in"
    assert torch.equal(adapter.pairs["model.layers.0.q_proj"].lora_a, torch.ones(2, 4))


def test_uploaded_zip_becomes_the_adapter(tmp_path: Path) -> None:
    folder = save_adapter(_adapter(), tmp_path / "a", exact=True)
    archive = zip_folder(folder, "0")
    _, adapter = receive_adapter([str(archive)], tmp_path / "in")
    assert adapter.base == "tiny_lm"


@pytest.mark.parametrize("names", [[], ["x.py"], ["adapter_config.json"], ["pytorch_model.bin"]])
def test_other_uploads_are_refused_and_leave_nothing(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).write_text("{}")
    with pytest.raises(LoraGenError) as caught:
        receive_adapter([str(tmp_path / name) for name in names], tmp_path / "in")
    assert not (tmp_path / "in").exists()
    assert str(tmp_path) not in str(caught.value)


def test_zip_has_the_same_bytes_for_the_same_files(tmp_path: Path) -> None:
    folder = save_adapter(_adapter(), tmp_path / "a", exact=True)
    first = zip_folder(folder, "7").read_bytes()
    assert zip_folder(folder, "7").read_bytes() == first


def test_rows_are_read_by_kind(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("input,output\na,b\n")
    (tmp_path / "b.txt").write_text("one\ntwo\n")
    (tmp_path / "c.jsonl").write_text(json.dumps({"input": "x", "output": "y"}))
    assert read_rows(str(tmp_path / "a.csv")) == ([], [("a", "b")])
    assert read_rows(str(tmp_path / "b.txt")) == (["one", "two"], [])
    assert read_rows(str(tmp_path / "c.jsonl")) == ([], [("x", "y")])


@pytest.mark.parametrize("text", HOSTILE)
def test_markup_keeps_a_text_a_text(text: str) -> None:
    box = element("p", text, title=text)
    box.append(table([text], [[text]], label=text))
    markup = render(box)
    for sign in ("<script", "<img", "<svg", "<iframe", "${", "{{", "`"):
        assert sign not in markup


def test_markup_shows_direction_marks() -> None:
    assert "\u202e" not in render(element("p", "a\u202eb"))


def test_heat_map_orders_layers_as_numbers() -> None:
    norms = {f"model.layers.{i}.self_attn.q_proj": float(i) for i in (10, 2, 1)}
    markup = heat_map(norms, caption="c")
    assert markup.index(">1</th>") < markup.index(">2</th>") < markup.index(">10</th>")


def test_heat_map_of_a_unet_has_a_row_for_each_block() -> None:
    block = "unet.{}.attentions.{}.transformer_blocks.0.attn{}.to_q"
    places = [("up_blocks.0", 0, 1), ("mid_block", 0, 2), ("down_blocks.1", 0, 1)]
    norms = {block.format(*place): 3.0 for place in places}
    norms |= {block.format("up_blocks.0", 1, 1): 4.0, "unet.conv_in": 1.0}
    markup = heat_map(norms, caption="c")
    rows = [markup.index(f">{row}</th>") for row in ("down 1", "mid", "up 0", "ends")]
    assert rows == sorted(rows)
    assert all(f">{kind}</th>" in markup for kind in ("conv", "self q", "cross q"))
    assert "2 modules together: 5.000" in markup


def test_families_are_the_largest_sorts_and_all_others() -> None:
    sorts = ["date_iso", "date_month", "id_words", "a", "b", "c", "d", "e", "", "<b>"]
    zoo = ZooView.__new__(ZooView)
    zoo._entries = [SimpleNamespace(family=sort) for sort in sorts]  # type: ignore[misc]
    found = zoo.families()
    assert (found["date"], found[OTHERS], len(found)) == (2, 4, MAX_FAMILIES + 1)
    assert sum(found.values()) == len(sorts)


def test_code_to_copy_answers_as_the_page_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Zoo.open(asset_path("tiny_lm", "zoo"), read_only=True) as zoo:
        adapter = zoo.load(next(e.id for e in zoo.entries() if e.task.startswith("pair_value")))
    spec = BaseModelSpec.from_config("tiny_lm")
    save_adapter(adapter, tmp_path / "lora-7", base=spec)
    monkeypatch.chdir(tmp_path)
    exec(loading_code(spec, "7", "port=6362"), {})
    (answer,) = TaskRunner("tiny_lm").answer(["port=6362"], adapter)
    assert capsys.readouterr().out.strip().splitlines()[-1] == answer


def test_map_places_a_member_where_it_stands() -> None:
    vectors = torch.randn(12, 40, generator=torch.Generator().manual_seed(0)).double()
    frame = _Frame(vectors @ vectors.mT)
    unit = torch.nn.functional.normalize(vectors, dim=1)
    assert frame.place(unit @ unit[3]) == pytest.approx(frame.points_B2[3].tolist())
    assert 0 < frame.explained < 1


def test_public_address_needs_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="no visitor needs a password"):
        AppConfig(host="0.0.0.0")
    monkeypatch.delenv("LORA_GEN_APP_PASSWORD", raising=False)
    with pytest.raises(ConfigError, match="`--auth` needs a password"):
        config_of(_arguments("--auth", "me"))


def test_password_opens_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORA_GEN_APP_PASSWORD", "secret")
    config = config_of(_arguments("--host", "0.0.0.0", "--auth", "me", "--allow-host", "A.example"))
    assert config.auth == ("me", "secret")
    assert "a.example" in config.allowed_hosts


def _arguments(*words: str) -> argparse.Namespace:
    return parser().parse_args(words)


def test_work_that_was_asked_for_can_be_cancelled_before_it_begins(tmp_path: Path) -> None:
    session = Session(tmp_path / "s")
    assert session.ask()
    assert session.cancel() == 1
    with session.work(asked=True) as cancelled:
        assert cancelled.is_set()
    with session.work(asked=True) as cancelled:
        assert not cancelled.is_set()


def test_asking_again_while_work_runs_changes_nothing(tmp_path: Path) -> None:
    session = Session(tmp_path / "s")
    with session.work():
        assert not session.ask()
    assert session.ask()


def test_work_that_ends_after_its_visitor_left_leaves_no_files(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path)
    session = sessions.get("visitor")
    with session.work() as cancelled:
        sessions.close("visitor")
        assert cancelled.is_set()
        _, folder = session.new_folder()
        folder.mkdir()
    assert list(tmp_path.iterdir()) == []


def test_forecast_without_an_encoder_says_so(tmp_path: Path) -> None:
    predictor = QualityPredictor(tmp_path, Models("", ()))
    assert not predictor.installed
    assert str(predictor.of(_adapter())) == "not predicted: no quality encoder is installed"


def test_forecast_with_numbers_shows_its_interval() -> None:
    forecast = Forecast(accuracy=0.8, low=0.61, high=0.93, reason="")
    assert str(forecast) == "0.80, 90% interval 0.61 to 0.93"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [(("wild", 0, 0), "`split` must be one of"), ((None, 1000, 0), "`max_rank` must be a number")],
)
def test_filters_refuse_what_no_entry_can_have(given: Any, sentence: str) -> None:
    with pytest.raises(GeneratorError, match=sentence):
        Wanted.of(*given)


def test_empty_filters_admit_every_entry() -> None:
    assert Wanted.of("", 0, 0) == Wanted()
