"""One generator for a tiny language base and a tiny embedding base."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from generator_factories import SIZES, StubTextEncoder, behavior_file, byte_base
from transformers import BertConfig, BertModel

from lora_gen.adapter.base_model import resolve_base
from lora_gen.errors import ConfigError
from training import generator_task
from training.behavior_data import BehaviorRecord, write_behaviors
from training.loop import train
from training.recipe import Recipe, parse_recipe
from training.shared_task import SharedGeneratorTask, build_shared_task
from training.task import TaskContext

Make = Callable[..., Recipe]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both bases, each with its tasks."""
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("both")
    byte_base(folder / "language")
    behavior_file(folder / "behaviors.jsonl")
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(resolve_base("minilm"))
    sizes = {"hidden_size": 24, "num_attention_heads": 2, "intermediate_size": 24}
    config = BertConfig(vocab_size=tokenizer.vocab_size, num_hidden_layers=1, **sizes)
    BertModel(config).save_pretrained(folder / "bert")
    tokenizer.save_pretrained(folder / "bert")
    records = [
        BehaviorRecord(
            task=name,
            split=split,
            descriptions=(f"by {name}",),
            examples=tuple((f"{value} sentence {i}", value) for i in range(4) for value in "ab"),
        )
        for name, split in (("urgency", "seen"), ("tone", "seen"), ("topic", "new"))
    ]
    write_behaviors(folder / "lenses.jsonl", records)
    return folder


@pytest.fixture
def recipe(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    stub = type("Stub", (), {"from_pretrained": staticmethod(lambda name: StubTextEncoder())})
    monkeypatch.setattr(generator_task, "TextEncoder", stub)
    goal = {"ranks": [1, 2], "flow_weight": 0.0}
    shared = {"cache": str(world / "cache"), "model": SIZES}
    words = {"base": str(world / "language"), "behaviors": str(world / "behaviors.jsonl")}
    lenses = {"base": str(world / "bert"), "behaviors": str(world / "lenses.jsonl")}
    data: dict[str, Any] = {
        "output_dir": str(tmp_path / "run"),
        "max_steps": 2,
        "batch_size": 2,
        "lr_scheduler": {"schedule": "constant"},
        "checkpoint": {"every": 2},
        "tracking": {"log_every": 1, "eval_every": 2},
        "task": {
            "name": "shared_generator",
            "generator": words | shared | {"objective": goal | {"lines_per_task": 2}},
            "lens_generator": lenses
            | shared
            | {"validation_split": "new", "objective": goal | {"lines_per_task": 4}},
        },
    }
    return lambda *overrides: parse_recipe(data, overrides)


def _task(recipe: Recipe) -> SharedGeneratorTask:
    torch.manual_seed(0)
    return build_shared_task(
        recipe.task, TaskContext(seed=0, batch_size=2, device=torch.device("cpu"))
    )


def test_both_bases_learn_in_turn(recipe: Make, tmp_path: Path) -> None:
    assert train(recipe()) == 2
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    assert "generator/behavior" in rows[0]
    assert "lens_generator/behavior" in rows[1]
    assert {"generator/exact_match_seen", "lens_generator/map_seen"} <= {
        name.removeprefix("eval/") for name in rows[2]
    }
    assert (tmp_path / "run" / "final" / "model_index.json").is_file()


def test_both_have_one_network_and_tokens_of_one_width(recipe: Make) -> None:
    task = _task(recipe())
    words, lenses = task.tasks.values()
    assert words.denoiser is lenses.denoiser
    assert {codec.layout.width for own in (words, lenses) for codec in own.codecs.values()} == {24}
    own = sum(p.numel() for p in task.model.parameters())
    assert own == sum(p.numel() for p in lenses.denoiser.parameters())


def test_a_task_alone_has_the_batches_and_the_start_of_both(recipe: Make) -> None:
    both, alone = _task(recipe()), _task(recipe("task.turns=[lens_generator]"))
    turns = [both.batch(i)["turn"] for i in range(4)]
    assert turns == ["generator", "lens_generator"] * 2
    for i in range(2):
        torch.testing.assert_close(both.batch(2 * i + 1)["labels"], alone.batch(i)["labels"])
    for one, other in zip(both.model.parameters(), alone.model.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_an_unknown_turn_is_refused(recipe: Make) -> None:
    with pytest.raises(ConfigError, match=r"`task.turns` is \['pictures'\]"):
        recipe("task.turns=[pictures]")
