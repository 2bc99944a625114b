from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from training_factories import toy_data, toy_recipe

from lora_gen.errors import ConfigError
from training.recipe import load_recipe, parse_recipe

FOLDER = Path("runs/x")


def _without(key: str) -> dict[str, Any]:
    return {name: value for name, value in toy_data(FOLDER).items() if name != key}


def test_recipe_resolved_is_a_valid_recipe_of_the_same_run(tmp_path: Path) -> None:
    recipe = toy_recipe(FOLDER, "optimizer.lr=1e-5", "tracking.trackers=[tensorboard]")
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe.to_yaml(), encoding="utf-8")
    assert load_recipe(path) == recipe


def test_recipe_resolved_holds_every_key() -> None:
    data = toy_recipe(FOLDER).to_dict()
    assert data["ema"] == {"decay": 0.999, "warmup": True}
    assert data["task"]["hidden_dim"] == 16


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("optimizer.lr=1e-4", 1e-4),
        ("optimizer.betas=[0.8, 0.9]", (0.8, 0.9)),
        ("mixed_precision=no", "no"),
        ("lr_scheduler.schedule=cosine", "cosine"),
        ("ema.warmup=false", False),
        ("task.num_examples=7", 7),
        ("output_dir=a=b", "a=b"),
    ],
)
def test_recipe_override_changes_the_dotted_key(override: str, value: Any) -> None:
    recipe = toy_recipe(FOLDER, override)
    found: Any = recipe if override.startswith("task.") else recipe.run
    for name in override.partition("=")[0].split("."):
        found = getattr(found, name)
    assert found == value


@pytest.mark.parametrize(
    ("override", "nearest"),
    [
        ("max_step=3", "max_steps"),
        ("optimizer.learning_rat=1", "optimizer.lr"),
        ("lr=1", "optimizer.lr"),
        ("log_every=1", "tracking.log_every"),
        ("task.hiden_dim=4", "task.hidden_dim"),
        ("num_examples=4", "task.num_examples"),
    ],
)
def test_recipe_unknown_key_names_path_and_nearest_key(override: str, nearest: str) -> None:
    path = override.partition("=")[0]
    sentence = f"`{path}` is not a key of the recipe. Did you mean `{nearest}`? Keys here: "
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        toy_recipe(FOLDER, override)


@pytest.mark.parametrize("key", ["output_dir", "max_steps", "batch_size"])
def test_recipe_missing_key_names_it(key: str) -> None:
    sentence = f"`{key}` is missing. Add it to the recipe or pass `{key}=…`."
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        parse_recipe(_without(key))


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("max_steps=soon", "`max_steps` must be a whole number, but is 'soon' (str)."),
        ("max_steps=2.5", "`max_steps` must be a whole number, but is 2.5 (float)."),
        ("seed=true", "`seed` must be a whole number, but is True (bool)."),
        ("seed=null", "`seed` must be a whole number, but is None (NoneType)."),
        ("optimizer.lr=high", "`optimizer.lr` must be a number, but is 'high' (str)."),
        ("output_dir=3", "`output_dir` must be text, but is 3 (int). Put it in quotes."),
        ("ema.warmup=1", "`ema.warmup` must be true or false, but is 1 (int)."),
        ("optimizer=3", "`optimizer` is a section with the keys name, lr, betas, "),
        ("optimizer.betas=[1]", "`optimizer.betas` must be a list of 2 values, but is [1] (list)."),
        ("optimizer.betas=[1, x]", "`optimizer.betas[1]` must be a number, but is 'x' (str)."),
        ("tracking.trackers=csv", "`tracking.trackers` must be a list, but is 'csv' (str)."),
        ("mixed_precision=fp16", "`mixed_precision` must be one of 'no', 'bf16', but is 'fp16'"),
        ("mixed_precision=false", "`mixed_precision` must be one of 'no', 'bf16', but is False"),
        ("task.noise=[1]", "`task.noise` must be a number, but is [1] (list)."),
    ],
)
def test_recipe_wrong_type_names_path_and_value(override: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        toy_recipe(FOLDER, override)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("max_steps=0", "`max_steps` is 0, but must be at least 1. Raise it in the recipe."),
        ("optimizer.lr=-1", "`optimizer.lr` is -1.0, but must be at least 0.0."),
        ("optimizer.lr=.nan", "`optimizer.lr` is nan, but must be at least 0.0."),
        ("optimizer.eps=0", "`optimizer.eps` is 0.0, but must be positive and finite."),
        (
            "optimizer.betas=[0.9, 1]",
            "`optimizer.betas` is [0.9, 1.0], but both must lie in [0, 1).",
        ),
        ("ema.decay=1", "`ema.decay` is 1.0, but must lie in [0, 1)."),
        ("checkpoint.keep=1", "`checkpoint.keep` is 1, but must be at least 2."),
        (
            "lr_scheduler.final_ratio=2",
            "`lr_scheduler.final_ratio` is 2.0, but must lie in [0, 1].",
        ),
        ("tracking.trackers=[csv]", "`tracking.trackers` names 'csv', but only tensorboard, "),
        ("task.hidden_dim=3", "`task.hidden_dim` is 3, but must be even and positive."),
    ],
)
def test_recipe_value_out_of_range_says_the_range(override: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        toy_recipe(FOLDER, override)


TASKS = (
    "baseline, benchmark, encoder, generator, lens_generator, picture_generator, "
    "shared_generator, tiny_sd_autoencoder, tiny_sd_base, tiny_sd_reader, toy"
)


def test_recipe_unknown_task_names_the_nearest() -> None:
    sentence = f"`task.name` is 'toi', but the tasks are {TASKS}. Did you mean 'toy'?"
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        toy_recipe(FOLDER, "task.name=toi")


@pytest.mark.parametrize("task", [None, "toy", {}, {"name": 3}])
def test_recipe_without_a_task_name_lists_the_tasks(task: Any) -> None:
    sentence = f"`task.name` is missing. Name one of the tasks {TASKS}."
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        parse_recipe({**toy_data(FOLDER), "task": task})


@pytest.mark.parametrize("override", ["max_steps", "=3", ""])
def test_recipe_malformed_override_shows_the_form(override: str) -> None:
    sentence = f"`{override}` is not an override. Write `key=value`, such as `optimizer.lr=1e-4`."
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        toy_recipe(FOLDER, override)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("seed={", "The recipe cannot be put together: "),
        ("seed=${nothing}", "The recipe cannot be put together: "),
        ("seed.deep=3", "`seed` must be a whole number, but is {'deep': 3} (dict)."),
    ],
)
def test_recipe_impossible_override_is_a_config_error(override: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        toy_recipe(FOLDER, override)


def test_recipe_interpolation_is_resolved() -> None:
    assert (
        toy_recipe(FOLDER, "lr_scheduler.warmup_steps=${batch_size}").run.lr_scheduler.warmup_steps
        == 4
    )


def test_load_recipe_missing_file_is_a_config_error(tmp_path: Path) -> None:
    sentence = (
        f"`{tmp_path / 'no.yaml'}` cannot be read (No such file or directory). Name a recipe file."
    )
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        load_recipe(tmp_path / "no.yaml")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: [1", "is not valid YAML: "),
        ("- 1\n- 2\n", "is not a mapping of keys to values."),
        ("a: 1\na: 2\n", "is not valid YAML: "),
        ("\x00", "is not valid YAML: "),
        ("a: ${b}", "`task.name` is missing|The recipe cannot be put together: "),
    ],
)
def test_load_recipe_malformed_file_is_a_config_error(
    tmp_path: Path, text: str, sentence: str
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=sentence):
        load_recipe(path)
