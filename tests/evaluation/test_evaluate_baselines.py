from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from generator_factories import StubTextEncoder, byte_base, task_zoo, tiny_denoiser

from lora_gen.conditioning.text import TextEncoder
from lora_gen.errors import ConfigError
from lora_gen.evaluation.baselines.registry import ALL, DEFAULT
from lora_gen.evaluation.fitting import FitConfig
from lora_gen.evaluation.run import evaluate
from lora_gen.pipeline import LoraGenPipeline


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    task_zoo(folder / "zoo", byte_base(folder / "base"))
    denoiser = tiny_denoiser(trained_bases=(str(folder / "base"),))
    LoraGenPipeline.build(denoiser, text_encoder="stub").save_pretrained(folder / "gen")
    return folder


@pytest.fixture
def measured(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(TextEncoder, "from_pretrained", lambda name: StubTextEncoder())
    monkeypatch.setattr("lora_gen.evaluation.tasks.SPLITS", ("seen",))
    config = FitConfig(steps=2, batch=2)
    monkeypatch.setattr("lora_gen.evaluation.baselines.multi_task.CONFIG", config)

    def run(*baselines: str) -> dict[str, Any]:
        return evaluate(
            zoo=world / "zoo",
            generator=world / "gen",
            base=str(world / "base"),
            out=tmp_path / "report",
            seeds=1,
            inputs=2,
            baselines=baselines,
        )

    return run


def test_all_baselines_are_measured_beside_the_generator(measured: Any, tmp_path: Path) -> None:
    report = measured("all")
    shots = [f"base {count}-shot" for count in (2, 4, 8)]
    methods = ["base zero-shot", *shots, *ALL, "generated", "oracle LoRA"]
    assert list(report["scores"]["seen"]) == methods
    assert {len(scores) for scores in report["scores"]["seen"].values()} == {3}
    assert set(report["costs"]) == {*ALL, "generated"}
    text = (tmp_path / "report" / "report.md").read_text()
    assert "## What an adapter costs" in text
    assert "| soup of 16 |" in text


def test_named_baselines_are_measured_alone(measured: Any) -> None:
    report = measured("soup of 4", DEFAULT[0])
    methods = ["base zero-shot", "base 4-shot", "mean LoRA", "soup of 4", "generated"]
    assert list(report["scores"]["seen"]) == [*methods, "oracle LoRA"]


def test_unknown_baseline_is_refused(measured: Any) -> None:
    with pytest.raises(ConfigError, match=r"`soup` is not a baseline. There are: mean LoRA"):
        measured("soup")
