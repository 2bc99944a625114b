from __future__ import annotations

from pathlib import Path

import pytest
from generator_factories import StubTextEncoder, byte_base, task_zoo, tiny_denoiser

from lora_gen.conditioning.text import TextEncoder
from lora_gen.evaluation import warm_start as measured
from lora_gen.evaluation.warm_start import STARTS, steps_to_target, to_markdown, warm_start
from lora_gen.pipeline import LoraGenPipeline


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured, "CHECKPOINTS", (0, 1, 2))
    monkeypatch.setattr(measured, "EXAMPLES", (2, 4))
    monkeypatch.setattr(measured, "_TASKS", 2)
    monkeypatch.setattr(TextEncoder, "from_pretrained", lambda name: StubTextEncoder())


def test_steps_are_the_first_at_the_target(quick: None) -> None:
    oracle = [0.9, 0.9, 0.9, 0.9]
    curve = [[0.1, 0.9, 1.0]] * 4
    assert steps_to_target(curve, oracle) == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert steps_to_target([[0.9, 0.9, 0.9]] * 4, oracle)["value"] == 0.0


def test_steps_are_none_where_the_target_is_never_reached(quick: None) -> None:
    never = {"value": None, "low": None, "high": None}
    assert steps_to_target([[0.1, 0.2, 0.3]] * 3, [1.0, 1.0, 1.0]) == never


def test_every_start_is_measured_with_every_number_of_examples(quick: None, tmp_path: Path) -> None:
    base = byte_base(tmp_path / "base")
    task_zoo(tmp_path / "zoo", base)
    denoiser = tiny_denoiser(trained_bases=(str(tmp_path / "base"),))
    LoraGenPipeline.build(denoiser, text_encoder="stub").save_pretrained(tmp_path / "gen")
    report = warm_start(
        zoo=tmp_path / "zoo",
        generator=tmp_path / "gen",
        base=str(base),
        split="seen",
        rates=(1e-2,),
    )
    assert list(report["starts"]) == list(STARTS)
    for records in report["starts"].values():
        assert list(records) == ["2", "4"]
        assert all(len(record["curve"]) == 3 for record in records.values())
    # the nearest adapter of a seen task is its oracle, so it begins at the target
    assert report["starts"]["nearest"]["4"]["start"]["value"] == report["oracle"]["value"]
    assert "| generated |" in to_markdown(report)
