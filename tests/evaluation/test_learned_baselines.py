from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from generator_factories import (
    TEXT_DIM,
    WIDTH,
    StubTextEncoder,
    byte_base,
    task_zoo,
    tiny_denoiser,
)

from lora_gen.adapter.base_model import BaseModelSpec
from lora_gen.codec.layout import TokenLayout
from lora_gen.conditioning.text import TextEncoder
from lora_gen.errors import ConfigError
from lora_gen.evaluation.baselines.learned import TrainedBaseline, is_learned, open_learned
from lora_gen.evaluation.run import evaluate
from lora_gen.models.baselines.model import BaselineModel
from lora_gen.pipeline import LoraGenPipeline

TEXTS = ["make it upper", "reverse the text"]


def _save(folder: Path, spec: BaseModelSpec, method: str, fingerprint: str) -> None:
    torch.manual_seed(0)
    BaselineModel(
        method=method,
        layout=TokenLayout.build(spec, rank=2, width=WIDTH).to_dict(),
        scaling={},
        text_dim=TEXT_DIM,
        hidden_dim=16,
        text_fingerprint=fingerprint,
    ).save_pretrained(folder)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    base = byte_base(folder / "base")
    task_zoo(folder / "zoo", base)
    denoiser = tiny_denoiser(trained_bases=(str(base),))
    LoraGenPipeline.build(denoiser, text_encoder="stub").save_pretrained(folder / "gen")
    spec = BaseModelSpec.from_config(str(base))
    for method in ("cvae", "multi_task", "hypernetwork_behavior"):
        _save(folder / method, spec, method, StubTextEncoder.fingerprint)
    _save(folder / "foreign", spec, "cvae", "7" * 64)
    return folder


def _open(world: Path, name: str) -> Any:
    spec = BaseModelSpec.from_config(str(world / "base"))
    return open_learned(world / name, StubTextEncoder(), spec, 2)  # type: ignore[arg-type]


def _values(adapter: Any) -> torch.Tensor:
    return torch.cat([pair.lora_b.flatten() for pair in adapter.pairs.values()])


@pytest.mark.parametrize("name", ["cvae", "gen"])
def test_learned_baseline_answers_each_text_by_its_seed(
    world: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TextEncoder, "from_pretrained", lambda name: StubTextEncoder())
    way = _open(world, name)
    first, again, other = (way.adapters(TEXTS, seed) for seed in (0, 0, 1))
    assert [torch.equal(_values(a), _values(b)) for a, b in zip(first, again, strict=True)] == [
        True,
        True,
    ]
    assert not torch.equal(_values(first[0]), _values(other[0]))
    assert not torch.equal(_values(first[0]), _values(first[1]))
    assert way.parameters > 1000


def test_learned_baseline_of_another_text_encoder_is_refused(world: Path) -> None:
    with pytest.raises(ConfigError, match="was trained with another text encoder than the"):
        _open(world, "foreign")


def test_only_a_multi_task_adapter_is_told(world: Path) -> None:
    told = {name: _open(world, name).told for name in ("multi_task", "hypernetwork_behavior")}
    assert told == {"multi_task": True, "hypernetwork_behavior": False}
    assert isinstance(_open(world, "multi_task"), TrainedBaseline)


def test_is_learned_knows_what_lies_in_a_folder(world: Path, tmp_path: Path) -> None:
    assert is_learned(world / "cvae")
    assert is_learned(world / "gen")
    assert not is_learned(world / "base")
    assert not is_learned(tmp_path)


def test_trained_folders_are_measured_beside_the_generator(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TextEncoder, "from_pretrained", lambda name: StubTextEncoder())
    monkeypatch.setattr("lora_gen.evaluation.tasks.SPLITS", ("seen",))
    report = evaluate(
        zoo=world / "zoo",
        generator=world / "gen",
        base=str(world / "base"),
        out=tmp_path / "report",
        seeds=1,
        inputs=2,
        baselines=(str(world / "cvae"), str(world / "multi_task")),
    )
    methods = ["base zero-shot", "base 4-shot", "cvae", "multi_task", "generated", "oracle LoRA"]
    assert list(report["scores"]["seen"]) == methods
    assert report["costs"]["multi_task"]["parameters"] < report["costs"]["cvae"]["parameters"]
