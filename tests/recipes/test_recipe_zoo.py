import random

import pytest
import torch

from lora_gen.adapter.algebra import cosine
from lora_gen.assets import __file__ as assets
from recipes.tiny_lm import recipe_zoo, train_adapters
from recipes.tiny_lm.recipe_zoo import LimitedTask, TrainingRecipe, stack_items
from recipes.tiny_lm.world.tasks import all_tasks, pairs

RECIPE = TrainingRecipe(rank=2, steps=1, lr=1e-2, targets="attention", examples=4, wrong=0.0)


def test_recipes_are_drawn_apart_from_tasks() -> None:
    drawn = {TrainingRecipe.draw(random.Random(f"0/{i}")) for i in range(40)}
    assert len(drawn) > 30
    assert {recipe.rank for recipe in drawn} == {1, 2, 4, 8, 16}


def test_limited_task_knows_few_examples_and_some_are_wrong() -> None:
    task = all_tasks()[0]
    known = LimitedTask.of(task, RECIPE)
    assert set(pairs(known, 96, 1)) == set(pairs(task, 4, 1))
    wrong = LimitedTask.of(task, TrainingRecipe(**{**vars(RECIPE), "examples": 96, "wrong": 0.9}))
    assert sum(output != task(text) for text, output in wrong.known) > 20


@pytest.mark.slow
def test_stack_holds_known_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TrainingRecipe, "draw", classmethod(lambda cls, rng: RECIPE))
    base = str(assets).replace("__init__.py", "tiny_lm/base")
    train_adapters._start(train_adapters.argparse.Namespace(base=base))
    torch.manual_seed(0)
    items = stack_items(0, all_tasks()[:3], 0, recipe_zoo.train_adapters._WORKER)
    faults = [info.extra["fault"] for _, info in items]
    # the mislabeled one takes the place of the labeled one: a zoo keeps the same bytes once
    assert faults == ["", "", "mislabeled", "broken", "noise", "duplicate"]
    twin = items[-1][0]
    original = max((a for a, _ in items[:3]), key=lambda other: cosine(twin, other))
    assert cosine(twin, original) == pytest.approx(1.0, abs=1e-5)
    assert len(twin.pairs) == len(original.pairs) < 28
    assert all(info.accuracy is not None for _, info in items)
