"""Merging, shrinking and going between adapters in the app, without its page."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from app.service import combine
from app.service.service import AppService
from app.service.sessions import OwnAdapter, Session, Sessions
from app.settings import AppConfig
from lora_gen import load_adapter
from lora_gen.adapter.adapter import Adapter, LoraPair
from lora_gen.adapter.algebra import add, norm
from lora_gen.errors import AdapterFormatError, LoraGenError

METHODS = ("linear", "ties", "dare", "knots", "tsv", "isotropic", "geodesic")


@pytest.fixture(scope="module")
def service() -> AppService:
    return AppService(AppConfig())


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Sessions(tmp_path).get("visitor")


def _given(session: Session, count: int, *, rank: int = 2, base: str = "other") -> list[str]:
    made = []
    for seed in range(count):
        generator = torch.Generator().manual_seed(seed)
        a = torch.randn(rank, 8, generator=generator)
        b = torch.randn(6, rank, generator=generator)
        pair = LoraPair(lora_a=a, lora_b=b)
        pairs = {f"model.layers.{number}.self_attn.q_proj": pair for number in range(2)}
        adapter = Adapter(pairs=pairs, base=base, task_type="CAUSAL_LM")
        new, folder = session.new_folder()
        session.keep(
            OwnAdapter(id=new, title=new, adapter=adapter, folder=folder, source="uploaded")
        )
        made.append(new)
    return made


def _apart(left: Adapter, right: Adapter) -> float:
    return norm(add([left, right], [1.0, -1.0])) / norm(right)


@pytest.mark.parametrize("method", METHODS)
def test_merge_is_kept_and_told_with_its_error(
    service: AppService, session: Session, method: str
) -> None:
    made = combine.merge(service, session, _given(session, 3), method=method, rank=2)
    assert made.own.adapter.max_rank <= 2
    assert session.get(made.own.id) is made.own
    assert f"the rank leaves out {made.error:.2%}" in made.sentence
    assert made.error > 0 or method == "geodesic"


def test_merge_with_weights_is_the_weighted_sum(service: AppService, session: Session) -> None:
    first, second = _given(session, 2)
    made = combine.merge(service, session, [first, second], weights="0.3, -2")
    wanted = add([session.get(first).adapter, session.get(second).adapter], [0.3, -2.0])
    assert _apart(made.own.adapter, wanted) < 1e-5
    assert made.error == pytest.approx(0, abs=1e-6)


def test_download_holds_the_adapter_and_how_it_was_made(
    service: AppService, session: Session, tmp_path: Path
) -> None:
    given = _given(session, 2)
    made = combine.merge(service, session, given, rank=2)
    zipfile.ZipFile(made.zip).extractall(tmp_path / "out")
    (folder,) = (tmp_path / "out").iterdir()
    assert _apart(load_adapter(folder), made.own.adapter) < 1e-5
    record = json.loads((folder / "lora_gen.json").read_text())
    assert record["merged_from"] == given
    assert record["relative_error"] == pytest.approx(made.error)


def test_compressed_to_its_own_rank_is_the_adapter(service: AppService, session: Session) -> None:
    (given,) = _given(session, 1)
    made = combine.compress(service, session, given, rank=2)
    assert made.error == pytest.approx(0, abs=1e-6)
    assert _apart(made.own.adapter, session.get(given).adapter) < 1e-5


def test_compressed_by_energy_keeps_it_with_fewer_values(
    service: AppService, session: Session
) -> None:
    (given,) = _given(session, 1)
    made = combine.compress(service, session, given, energy=0.8)
    assert made.own.adapter.num_parameters < session.get(given).adapter.num_parameters
    assert made.error**2 <= 0.2 + 1e-6
    assert load_adapter(made.own.folder).num_parameters == made.own.adapter.num_parameters


@pytest.mark.parametrize(("share", "which"), [(0.0, 0), (1.0, 1)])
def test_ends_of_the_way_between_two_are_the_two(
    service: AppService, session: Session, share: float, which: int
) -> None:
    both = _given(session, 2)
    made = combine.between(service, session, both, share=share)
    assert _apart(made.own.adapter, session.get(both[which]).adapter) < 1e-5


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"method": "average"}, "`method` must be one of"),
        ({"rank": 2.5}, "`rank` must be a whole number"),
        ({"rank": 10_000}, "`rank` must be a number between 0 and 512"),
        ({"weights": "a lot"}, "`weights` is `a lot`, which is not numbers"),
        ({"weights": [1.0]}, "`weights` has 1 numbers for 2 adapters"),
        ({"weights": "9, 9"}, "`weights` must be a number between -4"),
        ({"weights": "nan, 1"}, "`weights` must be a number between -4"),
    ],
)
def test_bad_value_is_a_sentence(
    service: AppService, session: Session, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(LoraGenError, match=sentence):
        combine.merge(service, session, _given(session, 2), **options)


@pytest.mark.parametrize("count", [0, 1, 9])
def test_merge_takes_two_to_eight(service: AppService, session: Session, count: int) -> None:
    with pytest.raises(LoraGenError, match=f"{count} adapters are chosen, but this takes 2 to 8"):
        combine.merge(service, session, _given(session, count))


def test_compression_needs_a_rank_or_an_energy(service: AppService, session: Session) -> None:
    with pytest.raises(LoraGenError, match="Pass exactly one"):
        combine.compress(service, session, _given(session, 1))


def test_another_visitor_cannot_use_the_adapter(
    service: AppService, session: Session, tmp_path: Path
) -> None:
    made = combine.merge(service, session, _given(session, 2))
    other = Session(tmp_path / "other")
    with pytest.raises(AdapterFormatError, match="is not an adapter of this visit"):
        combine.compress(service, other, made.own.id, rank=1)


def test_adapters_of_two_bases_are_refused(service: AppService, session: Session) -> None:
    mixed = _given(session, 1) + _given(session, 1, base="another")
    with pytest.raises(LoraGenError, match="are different bases"):
        combine.merge(service, session, mixed)


def test_too_large_adapters_are_refused(
    service: AppService, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = _given(session, 2)
    monkeypatch.setattr(combine, "MOST_WORK", 100)
    with pytest.raises(LoraGenError, match="too large for this page together"):
        combine.merge(service, session, given)


def test_full_session_takes_no_more_files(
    service: AppService, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = _given(session, 2)
    monkeypatch.setattr(combine, "MOST_BYTES", 100)
    with pytest.raises(LoraGenError, match="Choose a smaller rank, or reload the page"):
        combine.merge(service, session, given)
    assert list(session.folder.rglob("*")) == []
