from __future__ import annotations

import random
from pathlib import Path

import pytest

from lora_gen.errors import ConfigError
from training.ambiguity import Ambiguity, AmbiguousRecord, read_ambiguous, write_ambiguous
from training.behavior_data import BehaviorRecord

RECORD = AmbiguousRecord(split="train", descriptions=("shorten it", "cut it"), readings=("a", "b"))


def _task(name: str) -> BehaviorRecord:
    examples = tuple((f"{name}{i}", name) for i in range(6))
    return BehaviorRecord(task=name, split="seen", descriptions=("d",), examples=examples)


TASKS = {name: _task(name) for name in "abc"}


def test_ambiguous_file_keeps_its_records(tmp_path: Path) -> None:
    other = AmbiguousRecord(split="grouping", descriptions=("x",), readings=("b", "c"))
    write_ambiguous(tmp_path / "file", [RECORD, other])
    assert read_ambiguous(tmp_path / "file", split="train") == [RECORD]
    assert read_ambiguous(tmp_path / "file", split="grouping") == [other]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"split": "train"}\n', "line 1 is not a record with split, descriptions and readings"),
        ("nothing\n", "line 1 is not a record"),
        ("", "has no record of split 'train'. Name a split that it holds"),
    ],
)
def test_ambiguous_file_that_is_wrong_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "file").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_ambiguous(tmp_path / "file", split="train")


def test_missing_ambiguous_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is not a file\. Make it with the recipe's first"):
        read_ambiguous(tmp_path / "file", split="train")


def test_reading_that_no_split_has_is_refused() -> None:
    with pytest.raises(ConfigError, match="has the reading `b`, which is no task of"):
        Ambiguity([RECORD], {"a": TASKS["a"]}, places=4)


def test_drawn_places_hold_every_reading_evenly() -> None:
    text, parts = Ambiguity([RECORD], TASKS, places=4).draw(random.Random(0), 2)
    assert text in RECORD.descriptions
    names = sorted(pairs[0][1] for pairs in parts)
    assert names == ["a", "a", "b", "b"]
    assert all(len(pairs) == 2 for pairs in parts)


def test_more_readings_than_places_are_drawn_from() -> None:
    record = AmbiguousRecord(split="train", descriptions=("x",), readings=("a", "b", "c"))
    ambiguity = Ambiguity([record], TASKS, places=2)
    drawn = {
        frozenset(pairs[0][1] for pairs in ambiguity.draw(random.Random(i), 1)[1])
        for i in range(40)
    }
    assert drawn == {frozenset("ab"), frozenset("ac"), frozenset("bc")}


def test_ambiguous_description_of_a_task_fits_it_or_is_missing() -> None:
    ambiguity = Ambiguity([RECORD], TASKS, places=2)
    assert ambiguity.description_of("a", random.Random(0)) in RECORD.descriptions
    assert ambiguity.description_of("c", random.Random(0)) is None
