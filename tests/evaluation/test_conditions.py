from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from generator_factories import StubTextEncoder, byte_base, task_zoo, tiny_denoiser

from lora_gen.conditioning.text import TextEncoder
from lora_gen.evaluation.bench import open_bench
from lora_gen.evaluation.conditions import conditions, made_for, measure, summary
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


def test_every_condition_is_measured_on_every_task(bench: Any) -> None:
    tasks = evaluation_tasks(bench.zoo)["seen"]
    wanted = conditions(2)
    found = measure(bench, tasks, wanted, label="seen")
    assert list(found) == ["base", *wanted, "oracle LoRA"]
    assert {len(values) for values in found.values()} == {3}


def test_conditions_show_what_they_say(bench: Any) -> None:
    task, other = evaluation_tasks(bench.zoo)["seen"][:2]
    asked: list[dict[str, Any]] = []
    pipe = bench.pipe

    def record(text: str | None, **options: Any) -> Any:
        asked.append({"text": text, **options})
        return pipe(text, **options)

    object.__setattr__(bench, "pipe", record)
    for shown in conditions(2).values():
        made_for(bench, task, shown, other=other, seed=0)
    by_name = dict(zip(conditions(2), asked, strict=True))
    assert by_name["text"]["text"] in task.descriptions
    assert by_name["another task's text"]["text"] in other.descriptions
    assert by_name["8 examples"]["text"] is None
    assert [len(by_name[f"text + {k} examples"]["examples"]) for k in (2, 8)] == [2, 8]
    shown = {text for text, _ in by_name["text + 8 examples"]["examples"]}
    assert not shown & set(by_name["prompts"]["prompts"])


def test_summary_is_a_share_of_the_oracles_gain() -> None:
    found = summary({"base": [0.0] * 4, "text": [0.4] * 4, "oracle LoRA": [0.8] * 4})
    assert found["text"]["exact_match"]["value"] == pytest.approx(0.4)
    assert found["text"]["share_of_gain"]["value"] == pytest.approx(0.5)
    assert found["oracle LoRA"]["share_of_gain"]["value"] == pytest.approx(1.0)
