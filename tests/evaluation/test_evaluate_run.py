from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from adapter_factories import dense_vector
from generator_factories import StubTextEncoder, base_adapter, byte_base, task_zoo, tiny_denoiser

from lora_gen.adapter.algebra import average
from lora_gen.adapter.stacked import stack_adapters
from lora_gen.conditioning.chat import load_causal_lm
from lora_gen.conditioning.text import TextEncoder
from lora_gen.errors import ZooError
from lora_gen.evaluation.baselines.mean import mean_adapter
from lora_gen.evaluation.baselines.nearest import NearestText
from lora_gen.evaluation.behavior import exact_matches
from lora_gen.evaluation.run import evaluate
from lora_gen.evaluation.tasks import evaluation_tasks
from lora_gen.pipeline import LoraGenPipeline
from lora_gen.zoo.entry import EntryInfo
from lora_gen.zoo.store import Zoo

METHODS = [
    "base zero-shot",
    "base 4-shot",
    "mean LoRA",
    "nearest text",
    "generated",
    "oracle LoRA",
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    task_zoo(folder / "zoo", byte_base(folder / "base"))
    denoiser = tiny_denoiser(trained_bases=(str(folder / "base"),))
    LoraGenPipeline.build(denoiser, text_encoder="stub").save_pretrained(folder / "gen")
    return folder


@pytest.fixture
def zoo(world: Path) -> Iterator[Zoo]:
    with Zoo.open(world / "zoo", read_only=True) as opened:
        yield opened


def test_evaluation_measures_every_method_on_every_split(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TextEncoder, "from_pretrained", lambda name: StubTextEncoder())
    # an interval needs two tasks, and the tiny world holds out only one
    monkeypatch.setattr("lora_gen.evaluation.tasks.SPLITS", ("seen", "unseen_wording"))
    options: dict[str, Any] = {"base": str(world / "base"), "seeds": 2, "inputs": 3}
    report = evaluate(zoo=world / "zoo", generator=world / "gen", out=tmp_path / "r", **options)
    assert json.loads((tmp_path / "r" / "report.json").read_text()) == report
    for split in ("seen", "unseen_wording"):
        assert sorted(report["tasks"][split]) == ["lower", "reverse", "upper"]
        assert list(report["scores"][split]) == METHODS
        scores = [s for values in report["scores"][split].values() for s in values]
        assert len(scores) == 18
        assert all(0 <= score <= 1 for score in scores)


def test_evaluation_scores_are_exact_matches_on_test_pairs(world: Path, zoo: Zoo) -> None:
    from lora_gen.evaluation.bench import Bench, scores

    model, chat = load_causal_lm(world / "base")
    bench = Bench(model=model, chat=chat, spec=None, zoo=zoo, pipe=None, inputs=3)  # type: ignore[arg-type]
    tasks = evaluation_tasks(zoo)["seen"]
    adapters = [zoo.load(task.entry_id) for task in tasks]
    for task, adapter, found in zip(tasks, adapters, scores(bench, tasks, adapters), strict=True):
        lines = chat.pack([chat.line(*pair) for pair in task.tests[:3]])
        wanted = exact_matches(model, lines, stack_adapters([adapter])).float().mean()
        assert found == pytest.approx(float(wanted))


def test_evaluation_tasks_take_held_out_wordings_on_their_split_alone(zoo: Zoo) -> None:
    splits = evaluation_tasks(zoo)
    assert {s: len(t) for s, t in splits.items()} == {
        "seen": 3,
        "unseen_wording": 3,
        "unseen_composition": 1,
    }
    upper = {s: next(t for t in splits[s] if t.name == "upper") for s in ("seen", "unseen_wording")}
    assert upper["unseen_wording"].descriptions == ("please upper the thing",)
    assert "please upper the thing" not in upper["seen"].descriptions
    assert not set(upper["seen"].shots) & set(upper["seen"].tests)


def test_evaluation_tasks_of_a_limit_are_drawn_by_the_seed(zoo: Zoo) -> None:
    first, again = (evaluation_tasks(zoo, limit=2, seed=3) for _ in range(2))
    assert first == again
    assert {split: len(tasks) for split, tasks in first.items()} == {
        "seen": 2,
        "unseen_wording": 2,
        "unseen_composition": 1,
    }


def test_evaluation_refuses_a_zoo_without_tests(world: Path, tmp_path: Path) -> None:
    with Zoo.open(tmp_path / "zoo", create=True) as zoo:
        zoo.add(base_adapter(world / "base"), EntryInfo(task="upper"))
        with pytest.raises(ZooError, match="No entry of this zoo keeps test pairs under"):
            evaluation_tasks(zoo)


@pytest.mark.parametrize("group", [1, 2, 8])
def test_mean_adapter_has_the_mean_of_the_deltas(
    zoo: Zoo, group: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lora_gen.evaluation.baselines.mean._GROUP", group)
    ids = sorted(zoo.ids())
    found = mean_adapter(zoo, ids, rank=8)
    wanted = average([zoo.load(entry_id) for entry_id in ids])
    torch.testing.assert_close(dense_vector(found), dense_vector(wanted), atol=1e-4, rtol=1e-4)


def test_mean_adapter_refuses_a_zoo_without_seen_entries(zoo: Zoo) -> None:
    with pytest.raises(ZooError, match="The zoo has no entry of split `seen`"):
        mean_adapter(zoo, [], rank=4)


def test_nearest_text_finds_the_entry_of_its_own_description(zoo: Zoo) -> None:
    ids = sorted(zoo.ids())
    nearest = NearestText(zoo, ids, StubTextEncoder())  # type: ignore[arg-type]
    texts = [zoo.get(entry_id).descriptions[-1] for entry_id in ids]
    assert nearest.ids_of(texts) == ids
    assert nearest.ids_of([*reversed(texts), "reverse"])[:4] == ids[::-1]
