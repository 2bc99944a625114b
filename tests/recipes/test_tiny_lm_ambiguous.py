from __future__ import annotations

from functools import cache

import pytest

from recipes.tiny_lm.world.ambiguous import Ambiguous, all_ambiguous
from recipes.tiny_lm.world.tasks import make_splits, practice_tasks, tasks_by_name


@cache
def _found(split: str) -> list[Ambiguous]:
    return [one for one in all_ambiguous() if one.split == split]


def _training_tasks() -> set[str]:
    return {*make_splits()["seen"], *(task.name for task in practice_tasks())}


def test_ambiguous_world_is_as_large_as_promised() -> None:
    tests = [one for split in ("grouping", "wording", "step", "choice") for one in _found(split)]
    assert len(tests) >= 60
    assert len(_found("grouping")) >= 60
    assert len(_found("train")) >= 3_000


def test_every_description_fits_two_to_six_tasks_of_the_world() -> None:
    known = {*tasks_by_name(), *(task.name for task in practice_tasks())}
    for one in all_ambiguous():
        assert 2 <= len(set(one.readings)) == len(one.readings) <= 6
        assert set(one.readings) <= known
        assert all(one.descriptions)


def test_training_descriptions_fit_training_tasks_alone() -> None:
    for one in _found("train"):
        assert set(one.readings) <= _training_tasks()


@pytest.mark.parametrize("split", ["grouping", "choice"])
def test_sets_of_readings_are_held_out(split: str) -> None:
    trained = {frozenset(one.readings) for one in _found("train")}
    assert not trained & {frozenset(one.readings) for one in _found(split)}


def test_choices_are_between_compositions_that_nothing_was_trained_on() -> None:
    held_out = set(make_splits()["unseen_composition"])
    assert all(set(one.readings) <= held_out for one in _found("choice"))


@pytest.mark.parametrize("split", ["wording", "step", "choice"])
def test_held_out_descriptions_are_not_among_those_of_training(split: str) -> None:
    trained = {(text, one.readings) for one in _found("train") for text in one.descriptions}
    held_out = {(text, one.readings) for one in _found(split) for text in one.descriptions}
    assert not trained & held_out


def test_ambiguous_descriptions_are_the_same_every_time() -> None:
    assert all_ambiguous() == all_ambiguous()
    assert all_ambiguous(1) != all_ambiguous()
