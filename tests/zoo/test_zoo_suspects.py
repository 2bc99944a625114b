"""Ranking suspects: gauge-free, relative to the base's own adapters, and never a clearance."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner
from zoo_factories import fill_zoo, zoo_adapter

from lora_gen.adapter.algebra import scale
from lora_gen.adapter.io import save_adapter
from lora_gen.cli.main import app
from lora_gen.errors import ZooError
from lora_gen.zoo.store import Zoo
from lora_gen.zoo.suspects import MIN_PEERS, WARNING, Peers, judge_zoo

COUNT = MIN_PEERS + 4


@pytest.fixture(scope="module")
def peers() -> Peers:
    return Peers(zoo_adapter(seed) for seed in range(COUNT))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("suspects") / "zoo"
    ids = fill_zoo(path, COUNT)
    with Zoo.open(path) as zoo:
        zoo.guard.quarantine(ids[0], "uploaded")
    return path


def _with_one_module(adapter, change):
    name = min(adapter.pairs)
    return replace(adapter, pairs={**adapter.pairs, name: change(adapter.pairs[name])})


def test_amplified_adapter_comes_before_its_peers(peers):
    suspicion = peers.judge(scale(zoo_adapter(99), 80.0))
    assert suspicion.beyond == 1.0
    assert suspicion.score > peers.judge(zoo_adapter(99)).score
    assert re.match(r"size of `.*` lies \d+\.\d deviations above", suspicion.reasons[0])


def test_one_strange_module_is_named(peers):
    strange = _with_one_module(zoo_adapter(99), lambda pair: replace(pair, scaling=40.0))
    suspicion = peers.judge(strange)
    assert suspicion.beyond == 1.0
    assert any(f"`{min(strange.pairs)}`" in reason for reason in suspicion.reasons)


def test_score_does_not_depend_on_the_gauge(peers):
    adapter = zoo_adapter(99)
    gauge = torch.tensor([[2.0, 1.0], [0.0, 0.5]])

    def turned(pair):
        g = gauge if pair.rank == 2 else torch.eye(pair.rank) * 3
        inverse = torch.linalg.inv(g)
        return replace(pair, lora_a=inverse @ pair.lora_a.float(), lora_b=pair.lora_b.float() @ g)

    other = replace(adapter, pairs={name: turned(pair) for name, pair in adapter.pairs.items()})
    assert peers.judge(other).score == pytest.approx(peers.judge(adapter).score, abs=1e-3)


def test_module_that_is_missing_or_foreign_is_a_reason(peers):
    adapter = zoo_adapter(99)
    name = min(adapter.pairs)
    fewer = {other: pair for other, pair in adapter.pairs.items() if other != name}
    suspicion = peers.judge(replace(adapter, pairs={**fewer, "new.proj": adapter.pairs[name]}))
    assert "changes `new.proj`, which its peers leave alone" in suspicion.reasons
    assert f"leaves `{name}` alone, which its peers change" in suspicion.reasons


def test_too_few_peers_are_refused():
    with pytest.raises(ZooError, match=r"^3 adapters of this base are too few .* 20 are needed"):
        Peers(zoo_adapter(seed) for seed in range(3))


def test_zoo_is_judged_with_its_quarantine_and_a_file(folder, tmp_path):
    strange = save_adapter(scale(zoo_adapter(77), 9.0), tmp_path / "strange", exact=True)
    with Zoo.open(folder, read_only=True) as zoo:
        found = judge_zoo(zoo, others=[strange])
    assert [one.state for one in found].count("quarantined") == 1
    assert (found[0].name, found[0].state) == (str(strange), "not added")
    assert len(found) == COUNT + 1
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


def test_adapter_of_another_base_is_not_compared(folder, tmp_path):
    other = save_adapter(replace(zoo_adapter(1), base="other"), tmp_path / "other", exact=True)
    with (
        Zoo.open(folder, read_only=True) as zoo,
        pytest.raises(ZooError, match=r"is for `other`, and is compared with adapters of"),
    ):
        judge_zoo(zoo, others=[other])


def test_suspects_verb_warns_and_never_clears(folder):
    told = CliRunner().invoke(app, ["zoo", "suspects", str(folder), "--top", "2"])
    assert told.exit_code == 0
    assert "clears nobody" in " ".join(told.stdout.split())
    asked = CliRunner().invoke(app, ["zoo", "suspects", str(folder), "--json"])
    said = json.loads(asked.stdout)
    assert (said["warning"], len(said["suspects"])) == (WARNING, COUNT)
    assert not re.search(r"\bsafe\b|\bclean\b|\bharmless\b", told.stdout + asked.stdout)
