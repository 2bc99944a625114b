"""Augmented adapters in the flow-matching loss of a generator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from generator_factories import SIZES, StubTextEncoder, behavior_file, byte_base, task_zoo
from training_factories import losses

from lora_gen.adapter.algebra import cosine, norm
from lora_gen.conditioning.text import TextEncoder
from lora_gen.errors import ConfigError
from lora_gen.weight_space.augment import AugmentConfig
from lora_gen.zoo.store import Zoo
from training.adapter_variants import Variants
from training.generator_task import GeneratorTask, build_generator_task
from training.loop import train
from training.recipe import Recipe, parse_recipe
from training.task import TaskContext


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    task_zoo(folder / "zoo", byte_base(folder / "base"))
    behavior_file(folder / "behaviors.jsonl")
    return folder


def _recipe(world: Path, folder: Path, *overrides: str) -> Recipe:
    data: dict[str, Any] = {
        "output_dir": str(folder / "run"),
        "max_steps": 2,
        "batch_size": 2,
        "tracking": {"log_every": 1},
        "task": {
            "name": "generator",
            "base": str(world / "base"),
            "behaviors": str(world / "behaviors.jsonl"),
            "zoo": str(world / "zoo"),
            "cache": str(folder / "cache"),
            "model": SIZES,
            "objective": {"lines_per_task": 2, "ranks": [1, 2], "flow_weight": 0.5},
        },
    }
    return parse_recipe(data, overrides)


def _task(recipe: Recipe) -> GeneratorTask:
    context = TaskContext(seed=0, batch_size=2, device=torch.device("cpu"))
    return build_generator_task(recipe.task, context)


@pytest.fixture(autouse=True)
def stub_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TextEncoder, "from_pretrained", lambda name: StubTextEncoder())


def test_variant_depends_on_entry_number_and_seed_alone(world: Path) -> None:
    config = AugmentConfig(min_rank=1, noise=0.3)
    with Zoo.open(world / "zoo", read_only=True) as zoo:
        entry = zoo.ids()[0]
        first, again, other = (Variants(config, 0).of(zoo, entry, n) for n in (3, 3, 4))
        assert cosine(first, again) == pytest.approx(1.0)
        assert cosine(first, other) < 0.9999
        assert cosine(first, zoo.load(entry)) > 0.8


def test_variant_keeps_dropped_modules_as_zeros(world: Path) -> None:
    with Zoo.open(world / "zoo", read_only=True) as zoo:
        entry = zoo.ids()[0]
        original = zoo.load(entry)
        found = Variants(AugmentConfig(drop=0.9), 0).whole(zoo, entry, 1)
        bare = Variants(AugmentConfig(drop=0.9), 0).of(zoo, entry, 1)
    assert found.pairs.keys() == original.pairs.keys() > bare.pairs.keys()
    assert 0 < norm(found) < norm(original)


def test_generator_batches_hold_variants_and_depend_on_their_index_alone(
    world: Path, tmp_path: Path
) -> None:
    noisy = "task.objective.augment.noise=0.5"
    plain = _task(_recipe(world, tmp_path)).batch(1)
    first, again = (_task(_recipe(world, tmp_path, noisy)).batch(1) for _ in range(2))
    assert torch.equal(first["tokens"], again["tokens"])
    assert first["tokens"].shape == plain["tokens"].shape
    assert not torch.allclose(first["tokens"], plain["tokens"], atol=1e-2)


def test_augmentation_that_changes_nothing_gives_the_plain_tokens(
    world: Path, tmp_path: Path
) -> None:
    still = "task.objective.augment.noise=0"
    plain, same = (_task(_recipe(world, tmp_path, *more)).batch(1) for more in ((), (still,)))
    torch.testing.assert_close(same["tokens"], plain["tokens"], atol=2e-3, rtol=2e-3)


def test_generator_trains_on_variants_without_a_cache(world: Path, tmp_path: Path) -> None:
    changes = ("min_rank=1", "noise=0.3", "drop=0.2", "bits=8", "jitter=0.1")
    recipe = _recipe(world, tmp_path, *(f"task.objective.augment.{one}" for one in changes))
    assert train(recipe) == 2
    assert all(torch.tensor(loss).isfinite() for _, loss in losses(tmp_path / "run"))
    assert not (tmp_path / "cache").exists()


def test_augmentation_needs_a_zoo_and_labels(world: Path, tmp_path: Path) -> None:
    noisy = "task.objective.augment.noise=0.5"
    for more in ("task.zoo=null", "task.objective.behavior=distill"):
        with pytest.raises(ConfigError, match=r"`task\.objective\.augment` changes the adapters"):
            _recipe(world, tmp_path, noisy, more)
