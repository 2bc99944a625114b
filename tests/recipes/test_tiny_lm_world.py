from __future__ import annotations

import random
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from recipes.tiny_lm.world.inputs import KINDS, NOUNS_OF_KIND
from recipes.tiny_lm.world.primitive import Primitive, primitive
from recipes.tiny_lm.world.tasks import (
    CONNECTIVES,
    HELD_OUT_PRIMITIVES,
    HELD_OUT_WORDINGS,
    MAX_OUTPUT,
    Task,
    all_tasks,
    make_splits,
    pairs,
    practice_tasks,
    tasks_by_name,
    write_splits,
)


@cache
def _splits() -> dict[str, list[str]]:
    return make_splits()


def _primitives() -> list[Primitive]:
    return [task.steps[0] for task in all_tasks() if len(task.steps) == 1]


def _steps(split: str) -> Counter[str]:
    tasks = tasks_by_name()
    return Counter(step.name for name in _splits()[split] for step in tasks[name].steps)


def _some(count: int) -> list[Task]:
    return random.Random(0).sample(all_tasks(), count)


def test_world_is_as_large_as_promised() -> None:
    assert len(KINDS) >= 14
    assert len({p.family for p in _primitives()}) >= 60
    assert len(all_tasks()) >= 1_500
    assert set(KINDS) <= set(NOUNS_OF_KIND)


def test_world_names_each_task_once() -> None:
    assert len(tasks_by_name()) == len(all_tasks())


def test_primitives_have_eight_or_more_wordings_that_name_the_text() -> None:
    for step in _primitives():
        assert len(set(step.wordings)) == len(step.wordings) >= 8
        assert all("{x}" in wording for wording in step.wordings)
        assert all(w.format(x="it") for w in step.wordings)


def test_primitive_refuses_fewer_than_eight_wordings() -> None:
    with pytest.raises(ValueError, match="`shout` has 2 different wordings; at least 8"):
        primitive("shout", str.upper, "a {x}|b {x}|a {x}")


def test_splits_share_no_task_and_leave_none_out() -> None:
    names = [name for split in _splits().values() for name in split]
    assert sorted(names) == sorted(tasks_by_name())
    assert set(_splits()) == {"seen", "unseen_composition", "unseen_argument", "unseen_primitive"}


def test_practice_tasks_are_new_and_made_of_seen_steps_only() -> None:
    practice = practice_tasks()
    assert len({task.name for task in practice}) == len(practice) >= 2_000
    assert not {task.name for task in practice} & set(tasks_by_name())
    used = {step.name for task in practice for step in task.steps}
    assert used <= set(_steps("seen"))


def test_paraphrases_are_for_known_primitives_and_leave_the_held_out_wordings_alone() -> None:
    held_out = {w for step in _primitives() for w in step.wordings[-HELD_OUT_WORDINGS:]}
    for step in _primitives():
        assert len(step.wordings) >= 16
        assert not held_out & set(step.wordings[:-HELD_OUT_WORDINGS])


def test_held_out_compositions_use_seen_primitives_only() -> None:
    assert len(_splits()["unseen_composition"]) >= 150
    assert set(_steps("unseen_composition")) <= set(_steps("seen"))
    tasks = tasks_by_name()
    assert {len(tasks[name].steps) for name in _splits()["unseen_composition"]} == {2}


def test_held_out_primitives_and_arguments_are_in_no_seen_task() -> None:
    held = {p.name for p in _primitives() if p.family in HELD_OUT_PRIMITIVES}
    assert len(held) >= 6
    seen = set(_steps("seen")) | set(_steps("unseen_composition"))
    assert not held & seen
    arguments = {n for n in _splits()["unseen_argument"] if "+" not in n}
    assert arguments
    assert not arguments & seen


def test_splits_are_the_same_each_time_and_as_written(tmp_path: Path) -> None:
    assert make_splits() == _splits() == write_splits(tmp_path / "splits.json")


def _phrases(step: Primitive, *, held_out: bool) -> tuple[str, ...]:
    cut = len(step.wordings) - HELD_OUT_WORDINGS
    return step.wordings[cut:] if held_out else step.wordings[:cut]


@pytest.mark.parametrize("held_out", [False, True])
def test_descriptions_never_mix_wordings_of_training_with_held_out_ones(held_out: bool) -> None:
    rng = random.Random(0)
    for step in _primitives():
        task, nouns = Task(step.name, step.kind, (step,)), NOUNS_OF_KIND[step.kind]
        allowed = {w.format(x=n) for w in _phrases(step, held_out=held_out) for n in nouns}
        assert {task.describe(rng, held_out=held_out) for _ in range(10)} <= allowed


def test_held_out_wordings_of_a_task_are_none_of_its_training_ones() -> None:
    rng = random.Random(0)
    for task in _some(200):
        seen = {task.describe(rng) for _ in range(20)}
        held = {task.describe(rng, held_out=True) for _ in range(10)}
        assert not seen & held
    assert len(set(CONNECTIVES)) == len(CONNECTIVES) >= 6


def test_tasks_have_eight_or_more_different_descriptions() -> None:
    for task in _some(200):
        rng = random.Random(0)
        assert len({task.describe(rng) for _ in range(100)}) >= 8


def test_pairs_are_the_same_each_time_and_right() -> None:
    for task in _some(60):
        found = pairs(task, 6, 1)
        assert found == pairs(task, 6, 1)
        assert len(dict(found)) == len(found) >= 1
        for text, output in found:
            assert output == task(text)
            assert 1 <= len(output) <= MAX_OUTPUT
            assert not set("\t\n") & set(text + output)


def test_pairs_of_another_seed_are_others() -> None:
    differing = sum(pairs(task, 6, 1) != pairs(task, 6, 2) for task in _some(40))
    assert differing >= 38


@pytest.mark.parametrize(
    ("name", "text", "output"),
    [
        ("upper", "Maria Lopez", "MARIA LOPEZ"),
        ("reverse", "abc", "cba"),
        ("person_initials", "Lopez, Maria", "M.L."),
        ("email_domain", "maria@acme.org", "acme.org"),
        ("first_2", "hello", "he"),
        ("pair_json", "color=blue", '"color": "blue"'),
    ],
)
def test_tasks_do_what_they_say(name: str, text: str, output: str) -> None:
    assert tasks_by_name()[name](text) == output


def test_composition_takes_its_steps_in_order() -> None:
    for task in (t for t in _some(300) if len(t.steps) == 2):
        text = pairs(task, 1, 5)[0][0]
        assert task(text) == task.steps[1].function(task.steps[0].function(text))
        assert task.name == "+".join(step.name for step in task.steps)
