from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from generator_factories import StubTextEncoder, byte_base, task_zoo, tiny_denoiser

from lora_gen.conditioning.text import TextEncoder
from lora_gen.evaluation.bench import open_bench
from lora_gen.evaluation.settings import SETTINGS, kept, measure, summary
from lora_gen.evaluation.tasks import evaluation_tasks
from lora_gen.pipeline import LoraGenPipeline


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(TextEncoder, "from_pretrained", lambda name: StubTextEncoder())
    task_zoo(tmp_path / "zoo", byte_base(tmp_path / "base"))
    denoiser = tiny_denoiser(trained_bases=(str(tmp_path / "base"),))
    LoraGenPipeline.build(denoiser, text_encoder="stub").save_pretrained(tmp_path / "gen")
    with open_bench(tmp_path / "zoo", tmp_path / "gen", str(tmp_path / "base"), inputs=2) as found:
        yield found


def test_every_setting_is_measured_on_every_task(bench: Any) -> None:
    found = measure(bench, evaluation_tasks(bench.zoo)["seen"])
    cut = ["oracle, attention alone", "oracle, mlp alone"]
    assert list(found) == ["base zero-shot", "oracle LoRA", *cut, *SETTINGS]
    assert {len(values) for values in found.values()} == {3}


def test_settings_reach_the_generator(bench: Any) -> None:
    task, asked = evaluation_tasks(bench.zoo)["seen"][0], []
    pipe = bench.pipe

    def record(text: str, **options: Any) -> Any:
        asked.append({**options, "drawn": options["generator"].initial_seed()})
        return pipe(text, **options)

    object.__setattr__(bench, "pipe", record)
    measure(bench, [task])
    by_name = dict(zip(SETTINGS, asked, strict=True))
    assert {options["drawn"] for options in asked} == {0}
    assert [by_name[name]["rank"] for name in ("default", "rank 8")] == [4, 8]
    assert by_name["attention alone"]["targets"] == "attention"
    assert by_name["guidance 1.5"]["guidance_scale"] == 1.5


def test_kept_leaves_the_named_modules_as_they_are(bench: Any) -> None:
    adapter = bench.zoo.load(bench.zoo.ids(split="seen")[0])
    cut = kept(adapter, bench.spec, "attention")
    assert {name.rsplit(".", 1)[1] for name in cut.pairs} == {
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
    }
    assert all(torch.equal(pair.lora_a, adapter.pairs[n].lora_a) for n, pair in cut.pairs.items())


def test_summary_compares_with_the_default() -> None:
    found = {"base zero-shot": [0.0] * 4, "oracle LoRA": [0.8] * 4}
    found |= {"default": [0.4] * 4, "rank 8": [0.2] * 4}
    report = summary(found)
    assert list(report) == ["default", "rank 8"]
    assert report["rank 8"]["share_of_gain"]["value"] == pytest.approx(0.25)
    assert report["rank 8"]["difference"]["value"] == pytest.approx(-0.2)
