from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from generator_factories import SIZES, StubTextEncoder
from picture_factories import picture_base, random_picture_adapters
from training_factories import losses, weight_hashes

from lora_gen.conditioning.text import TextEncoder
from lora_gen.errors import ConfigError
from lora_gen.pipeline import LoraGenPipeline
from lora_gen.safetensors_header import serialize_tensors
from lora_gen.zoo.entry import EntryInfo
from lora_gen.zoo.store import Zoo
from recipes.tiny_sd.train_adapters import TARGETS
from training.behavior_data import BehaviorRecord, write_behaviors
from training.loop import train
from training.picture_task import build_picture_task
from training.recipe import Recipe, parse_recipe
from training.task import TaskContext

Make = Callable[..., Recipe]
STYLES = ("sepia", "negative", "hatch")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("styles")
    records = [
        BehaviorRecord(
            task=style,
            split="unseen_composition" if style == "hatch" else "seen",
            descriptions=(f"make it {style}", f"{style} please"),
            examples=tuple((f"{i} red circles", str(i)) for i in range(4)),
        )
        for style in STYLES
    ]
    write_behaviors(folder / "behaviors.jsonl", records)
    pictures = {style: torch.randn(4, 4, 8, 8).half() for style in STYLES}
    (folder / "pictures.safetensors").write_bytes(serialize_tensors(pictures, {}))
    with Zoo.open(folder / "zoo", create=True) as zoo:
        for style, adapter in zip(STYLES, random_picture_adapters(3), strict=True):
            zoo.add(adapter, EntryInfo(task=style))
    return folder


@pytest.fixture
def recipe(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes a recipe of two steps on three styles; dotted keys change it."""
    monkeypatch.setattr(TextEncoder, "from_pretrained", lambda name: StubTextEncoder())
    data: dict[str, Any] = {
        "output_dir": str(tmp_path / "run"),
        "max_steps": 2,
        "batch_size": 2,
        "optimizer": {"lr": 1e-2},
        "lr_scheduler": {"schedule": "constant"},
        "checkpoint": {"every": 1},
        "tracking": {"log_every": 1, "eval_every": 2},
        "task": {
            "name": "picture_generator",
            "base": str(picture_base()),
            "behaviors": str(world / "behaviors.jsonl"),
            "pictures": str(world / "pictures.safetensors"),
            "zoo": str(world / "zoo"),
            "cache": str(world / "cache"),
            "targets": list(TARGETS),
            "model": SIZES,
            "objective": {"lines_per_task": 2, "ranks": [1, 2], "flow_weight": 0.5},
        },
    }
    return lambda *overrides: parse_recipe(data, overrides)


@pytest.mark.parametrize("behavior", ["labels", "distill"])
def test_a_generator_of_styles_trains_and_writes_what_diffusers_loads(
    recipe: Make, behavior: str, tmp_path: Path
) -> None:
    assert train(recipe(f"task.objective.behavior={behavior}")) == 2
    assert all(loss == loss for _, loss in losses(tmp_path / "run"))
    pipe = LoraGenPipeline.from_pretrained(tmp_path / "run" / "final")
    adapter = pipe("make it sepia", rank=2).adapters[0]
    assert {name.rsplit(".", 1)[-1] for name in adapter.pairs} >= {"to_q", "conv1", "conv_in"}
    assert all(name.startswith("unet.") for name in adapter.pairs)


def test_a_generator_of_styles_resumes_bitwise(recipe: Make, tmp_path: Path) -> None:
    train(recipe())
    straight = losses(tmp_path / "run"), weight_hashes(tmp_path / "run", 2)
    other = f"output_dir={tmp_path / 'other'}"
    train(recipe(other, "max_steps=1"))
    train(recipe(other))
    assert (losses(tmp_path / "other"), weight_hashes(tmp_path / "other", 2)) == straight


def test_styled_pictures_are_needed(recipe: Make, tmp_path: Path) -> None:
    context = TaskContext(seed=0, batch_size=2, device=torch.device("cpu"))
    missing = recipe(f"task.pictures={tmp_path / 'none'}").task
    with pytest.raises(ConfigError, match=r"is not a file\. Make the pictures"):
        build_picture_task(missing, context)


def test_the_power_of_timesteps_is_bounded(recipe: Make) -> None:
    with pytest.raises(ConfigError, match=r"timestep_power` is 0\.0, but must be above 0"):
        recipe("task.timestep_power=0.0")
