from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from generator_factories import SIZES, StubTextEncoder, behavior_file, byte_base, task_zoo

from lora_gen.conditioning.text import TextEncoder
from lora_gen.errors import ConfigError
from training.continual import Memory, RememberConfig, relative_change
from training.generator_task import GeneratorTask, build_generator_task
from training.loop import train
from training.recipe import parse_recipe
from training.task import TaskContext


def stack(seed: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    source = torch.Generator().manual_seed(seed)
    return {
        name: (torch.randn(2, 3, 5, generator=source), torch.randn(2, 4, 3, generator=source))
        for name in ("q_proj", "v_proj")
    }


def test_relative_change_is_that_of_dense_deltas():
    one, two = stack(0), stack(1)
    apart = sum((two[n][1] @ two[n][0] - one[n][1] @ one[n][0]).square().sum((1, 2)) for n in one)
    whole = sum((one[n][1] @ one[n][0]).square().sum((1, 2)) for n in one)
    torch.testing.assert_close(relative_change(two, one), apart / whole)


def test_relative_change_does_not_see_the_gauge():
    one = stack(0)
    gauge = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(5)) + 3 * torch.eye(3)
    turned = {n: (gauge.inverse() @ a, b @ gauge) for n, (a, b) in one.items()}
    torch.testing.assert_close(relative_change(turned, one), torch.zeros(2), atol=1e-4, rtol=0)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, tasks, and a generator that was trained on them for two steps."""
    folder = tmp_path_factory.mktemp("world")
    task_zoo(folder / "zoo", byte_base(folder / "base"))
    behavior_file(folder / "behaviors.jsonl")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TextEncoder, "from_pretrained", lambda name: StubTextEncoder())
        train(parse_recipe(recipe_of(folder, output_dir=str(folder / "old"))))
    return folder


def recipe_of(world: Path, **changes: Any) -> dict[str, Any]:
    task = {
        "name": "generator",
        "base": str(world / "base"),
        "behaviors": str(world / "behaviors.jsonl"),
        "zoo": str(world / "zoo"),
        "cache": str(world / "cache"),
        "model": SIZES,
        "objective": {"lines_per_task": 2, "ranks": [1, 2]},
    }
    return {
        "max_steps": 2,
        "batch_size": 2,
        "lr_scheduler": {"schedule": "constant"},
        "optimizer": {"lr": 1e-2},
        "task": task | changes.pop("task", {}),
        **changes,
    }


def going_on(world: Path, monkeypatch: pytest.MonkeyPatch, weight: float = 1.0) -> GeneratorTask:
    monkeypatch.setattr(TextEncoder, "from_pretrained", lambda name: StubTextEncoder())
    remember = {"behaviors": str(world / "behaviors.jsonl"), "rows": 3, "weight": weight}
    changes = {"zoo": None, "start_from": str(world / "old" / "final"), "remember": remember}
    recipe = parse_recipe(recipe_of(world, output_dir="unused", task=changes))
    context = TaskContext(seed=0, batch_size=2, device=torch.device("cpu"))
    return build_generator_task(recipe.task, context)


def test_nothing_is_forgotten_at_the_start(world: Path, monkeypatch: pytest.MonkeyPatch):
    task = going_on(world, monkeypatch)
    task.model.eval()
    _, parts = task.loss(task.model, task.batch(0), torch.Generator().manual_seed(0))
    assert float(parts["forgotten"]) == pytest.approx(0, abs=1e-5)


def test_a_generator_that_goes_on_keeps_the_scale_of_its_tokens(
    world: Path, monkeypatch: pytest.MonkeyPatch
):
    from lora_gen.pipeline import LoraGenPipeline

    old = LoraGenPipeline.from_pretrained(world / "old" / "final").denoiser.token_scaling
    assert going_on(world, monkeypatch).denoiser.token_scaling == old


def _forgotten(task: GeneratorTask) -> float:
    optimizer = torch.optim.Adam(task.denoiser.parameters(), lr=3e-3)
    task.model.eval()
    for step in range(12):
        loss, parts = task.loss(task.model, task.batch(step), torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float(parts["forgotten"])


def test_memory_keeps_a_generator_near_its_old_answers(
    world: Path, monkeypatch: pytest.MonkeyPatch
):
    careless = _forgotten(going_on(world, monkeypatch, weight=0.0))
    assert _forgotten(going_on(world, monkeypatch, weight=30.0)) < 0.5 * careless


def test_the_old_network_is_neither_trained_nor_saved(world: Path, monkeypatch: pytest.MonkeyPatch):
    task = going_on(world, monkeypatch)
    assert isinstance(task.memory, Memory)
    assert not any(p.requires_grad for p in task.memory.old.parameters())
    wanted = sum(p.numel() for p in task.denoiser.parameters())
    assert sum(p.numel() for p in task.model.parameters()) == wanted


def test_averaged_network_lies_between_the_old_and_the_trained_one(
    world: Path, monkeypatch: pytest.MonkeyPatch
):
    task = going_on(world, monkeypatch)
    assert task.memory is not None
    task.memory.config = replace(task.memory.config, share=0.25)
    with torch.no_grad():
        for parameter in task.denoiser.parameters():
            parameter.add_(1.0)
    pairs = zip(
        task.memory.averaged(task.denoiser).parameters(),
        task.memory.old.parameters(),
        task.denoiser.parameters(),
        strict=True,
    )
    for between, before, after in pairs:
        torch.testing.assert_close(between, before + 0.25)
        torch.testing.assert_close(after, before + 1.0)


def test_saved_share_is_above_nothing_and_at_most_all():
    with pytest.raises(ConfigError, match=r"`task\.remember\.share` is 0, and must be above 0"):
        RememberConfig(behaviors="x", share=0.0)


def test_remembering_needs_something_to_remember(world: Path, monkeypatch: pytest.MonkeyPatch):
    remember = {"remember": {"behaviors": "x.jsonl"}}
    with pytest.raises(ConfigError, match=r"there is nothing to forget\. Set `task.start_from`"):
        parse_recipe(recipe_of(world, output_dir="unused", task=remember))
    with pytest.raises(ConfigError, match=r"has rows 0 and weight 1\.0"):
        RememberConfig(behaviors="x.jsonl", rows=0)
