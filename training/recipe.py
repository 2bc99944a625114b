"""Recipes: YAML and dotted overrides to frozen dataclasses, strictly; the door to OmegaConf."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lora_gen.errors import ConfigError
from training.config import RunConfig, require
from training.tasks import TASKS, find_task

_Config = TypeVar("_Config")

_YAML_11_BOOLEANS = {"y", "n", "yes", "no", "on", "off"}
_SCALARS: dict[type, tuple[str, tuple[type, ...]]] = {
    str: ("text", (str, Path)),
    bool: ("true or false", (bool,)),
    int: ("a whole number", (int,)),
    float: ("a number", (int, float)),
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A run and its task, complete."""

    run: RunConfig
    """What the loop does."""
    task_name: str
    """Which task of `training.tasks.TASKS`."""
    task: Any
    """The task's own config dataclass."""

    def to_dict(self) -> dict[str, Any]:
        """Every value of the recipe, as plain data that `parse_recipe` accepts."""
        run, task = (
            cast(dict[str, Any], OmegaConf.to_container(OmegaConf.structured(config)))
            for config in (self.run, self.task)
        )
        return cast(dict[str, Any], _plain(run | {"task": {"name": self.task_name} | task}))

    def to_yaml(self) -> str:
        """The resolved recipe, itself a valid recipe."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False)


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in a YAML file, changed by overrides.

    Args:
        path: The YAML file.
        overrides: `key=value` with dotted keys, such as `optimizer.lr=1e-4`.

    Raises:
        ConfigError: The file cannot be read; a key is unknown or missing; a value is wrong.
    """
    try:
        # OmegaConf's reader knows that 1e-3 is a number; plain YAML 1.1 takes it for text
        data = OmegaConf.to_container(OmegaConf.create(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(
            f"`{path}` cannot be read ({error.strerror}). Name a recipe file."
        ) from error
    except (yaml.YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise ConfigError(f"`{path}` is not valid YAML: {_first_line(error)}.") from error
    require(isinstance(data, dict), f"`{path}` is not a mapping of keys to values.")
    return parse_recipe(cast(dict[str, Any], data), overrides)


def parse_recipe(data: Mapping[str, Any], overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in plain data, changed by overrides.

    Args:
        data: Keys of `RunConfig`, and `task` with its `name` and the keys of the task's config.
        overrides: As in `load_recipe`.

    Raises:
        ConfigError: As in `load_recipe`.
    """
    run_data = _with_overrides(data, overrides)
    task_data = run_data.pop("task", None)
    require(
        isinstance(task_data, dict) and isinstance(task_data.get("name"), str),
        f"`task.name` is missing. Name one of the tasks {', '.join(sorted(TASKS))}.",
    )
    task_name = task_data.pop("name")
    task_class, _ = find_task(task_name)
    known = [*_paths(RunConfig, ""), "task.name", *_paths(task_class, "task.")]
    _check(run_data, RunConfig, "", known)
    _check(task_data, task_class, "task.", known)
    run = _build(run_data, RunConfig, "")
    return Recipe(run=run, task_name=task_name, task=_build(task_data, task_class, "task."))


def _with_overrides(data: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    try:
        config = OmegaConf.create(dict(data))
        for override in overrides:
            key, equals, text = override.partition("=")
            require(
                bool(key) and bool(equals),
                f"`{override}` is not an override. Write `key=value`, such as `optimizer.lr=1e-4`.",
            )
            OmegaConf.update(config, key, _value(text))
        return cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"The recipe cannot be put together: {_first_line(error)}.") from error


def _value(text: str) -> Any:
    """Value of an override: YAML, but `no` and its kin stay words."""
    if text.lower() in _YAML_11_BOOLEANS:
        return text
    return OmegaConf.to_container(OmegaConf.create(f"value: {text}"))["value"]  # type: ignore[index,call-overload]


def _paths(config_class: type[Any], prefix: str) -> Iterator[str]:
    """Dotted paths of every key below a config class."""
    for name, hint in get_type_hints(config_class).items():
        yield f"{prefix}{name}"
        nested = _section_class(hint)
        if nested is not None:
            yield from _paths(nested, f"{prefix}{name}.")


def _section_class(hint: Any) -> type[Any] | None:
    """The dataclass in `hint` or in `hint | None`."""
    options = (hint, *get_args(hint))
    return next((o for o in options if isinstance(o, type) and is_dataclass(o)), None)


def _check(
    data: Mapping[str, Any], config_class: type[Any], prefix: str, known: Sequence[str]
) -> None:
    """Raise for the first unknown key, missing key or wrong type."""
    hints = get_type_hints(config_class)
    for key, value in data.items():
        path = f"{prefix}{key}"
        require(
            key in hints,
            f"`{path}` is not a key of the recipe. Did you mean `{_nearest(path, known)}`? "
            f"Keys here: {', '.join(hints)}.",
        )
        nested = _section_class(hints[key])
        if nested is None or (value is None and type(None) in get_args(hints[key])):
            _check_value(value, hints[key], path)
            continue
        require(
            isinstance(value, dict),
            f"`{path}` is a section with the keys {', '.join(get_type_hints(nested))}, "
            f"but is {value!r}.",
        )
        _check(value, nested, f"{path}.", known)
    for field in fields(config_class):
        needed = field.default is MISSING and field.default_factory is MISSING
        require(
            field.name in data or not needed,
            f"`{prefix}{field.name}` is missing. "
            f"Add it to the recipe or pass `{prefix}{field.name}=…`.",
        )


def _check_value(value: Any, hint: Any, path: str) -> None:
    """Refuse what OmegaConf would convert in silence, or report without the path."""
    origin, options = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        if value is None and NoneType in options:
            return
        options = tuple(o for o in options if o is not NoneType)
        if len(options) == 1:
            _check_value(value, options[0], path)
    elif origin is Literal:
        names = ", ".join(map(repr, options))
        require(value in options, f"`{path}` must be one of {names}, but is {_shown(value)}.")
    elif origin in (tuple, list):
        count = 0 if origin is list or options[-1] is Ellipsis else len(options)
        wanted = f"a list of {count} values" if count else "a list"
        fits = isinstance(value, list | tuple) and len(value) == (count or len(value))
        require(fits, f"`{path}` must be {wanted}, but is {_shown(value)}.")
        for index, item in enumerate(value):
            _check_value(item, options[index if count else 0], f"{path}[{index}]")
    elif hint in _SCALARS:
        name, types = _SCALARS[hint]
        fits = isinstance(value, types) and (hint is bool or not isinstance(value, bool))
        advice = " Put it in quotes." if hint is str else ""
        require(fits, f"`{path}` must be {name}, but is {_shown(value)}.{advice}")


def _shown(value: Any) -> str:
    return f"{value!r} ({type(value).__name__})"


def _nearest(path: str, known: Sequence[str]) -> str:
    """The known path that looks most like `path`; one with the same last word wins."""
    last = path.rpartition(".")[2]
    same_word = [k for k in known if k.rpartition(".")[2] == last]
    return get_close_matches(path, same_word or known, n=1, cutoff=0.0)[0]


def _build(data: Mapping[str, Any], config_class: type[_Config], prefix: str) -> _Config:
    try:
        schema = OmegaConf.structured(config_class)
        _unlock(schema)
        return cast(_Config, OmegaConf.to_object(OmegaConf.merge(schema, dict(data))))
    except OmegaConfBaseException as error:
        path = f"{prefix}{getattr(error, 'full_key', None) or ''}".rstrip(".") or "recipe"
        raise ConfigError(f"`{path}` is wrong: {_first_line(error)}.") from error


def _unlock(schema: DictConfig) -> None:
    """Let values be merged into the schema of a frozen dataclass."""
    OmegaConf.set_readonly(schema, None)
    for key in schema:
        if not OmegaConf.is_missing(schema, key) and isinstance(schema[key], DictConfig):
            _unlock(schema[key])


def _plain(value: Any) -> Any:
    """Lists for tuples and text for paths, so that YAML needs no tags."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".")
