"""Laws of the splits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_gen.errors import ZooError
from lora_gen.zoo.splits import (
    SPLITS,
    load_splits,
    require_disjoint,
    require_split,
    save_splits,
    split_by_family,
)

names = st.lists(st.text(max_size=4), max_size=40)
weights = st.lists(st.integers(0, 5), min_size=5, max_size=5).filter(any)


@given(families=names, shares=weights, seed=st.integers(0, 99))
def test_split_puts_every_family_in_exactly_one_split(families, shares, seed):
    fractions = {split: share / sum(shares) for split, share in zip(SPLITS, shares, strict=True)}
    assignment = split_by_family(families, fractions, seed)
    members = [name for split in SPLITS for name in assignment.members(split)]
    assert sorted(members) == sorted(set(families))
    require_disjoint((family, assignment.of(family)) for family in families)
    for split, share in fractions.items():
        assert abs(len(assignment.members(split)) - share * len(set(families))) < 1


@given(families=names, seed=st.integers(0, 99))
def test_split_ignores_order_and_repeats(families, seed):
    fractions = {"seen": 0.7, "unseen_composition": 0.3}
    first = split_by_family(families, fractions, seed)
    assert split_by_family([*reversed(families), *families], fractions, seed) == first


def test_split_changes_with_the_seed():
    families = [f"family{number}" for number in range(50)]
    fractions = {"seen": 0.5, "unseen_primitive": 0.5}
    assert split_by_family(families, fractions, 0) != split_by_family(families, fractions, 1)


def test_split_file_gives_back_the_assignment(tmp_path):
    assignment = split_by_family(["a", "b", "ü"], {"seen": 0.5, "unseen_argument": 0.5}, 3)
    save_splits(assignment, tmp_path / "splits.json")
    first = (tmp_path / "splits.json").read_bytes()
    loaded = load_splits(tmp_path / "splits.json")
    assert loaded == assignment
    save_splits(loaded, tmp_path / "splits.json")
    assert (tmp_path / "splits.json").read_bytes() == first


@pytest.mark.parametrize("fractions", [{}, {"seen": 0.5}, {"seen": 1.5, "unseen_wording": -0.5}])
def test_fractions_that_are_no_shares_are_refused(fractions):
    with pytest.raises(ZooError, match="the shares must be at least 0 and add up to 1"):
        split_by_family(["a"], fractions, 0)


def test_unknown_split_is_refused():
    with pytest.raises(ZooError, match=r"`test` is not a split. Use one of seen, unseen_wording,"):
        require_split("test")


def test_family_in_two_splits_is_named():
    with pytest.raises(ZooError, match="`case` is in the splits `seen` and `unseen_wording`"):
        require_disjoint([("case", "seen"), ("trim", "seen"), ("case", "unseen_wording")])


def test_family_without_a_split_is_named():
    assignment = split_by_family(["a"], {"seen": 1.0}, 0)
    with pytest.raises(ZooError, match=r"`b` is in none of the splits of this file \(1 families\)"):
        assignment.of("b")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "is not a split file"),
        ("[]", "is not a split file"),
        ('{"schema": 1, "seed": 0, "splits": {"test": []}}', "`test` is not a split"),
        ('{"schema": 1, "seed": 0, "splits": {"seen": ["a"], "unseen_wording": ["a"]}}', "`a` is"),
        ('{"schema": 9, "seed": 0, "splits": {}}', "has schema 9"),
    ],
)
def test_file_that_is_no_split_file_is_refused(tmp_path, content, sentence):
    (tmp_path / "splits.json").write_text(content)
    with pytest.raises(ZooError, match=sentence):
        load_splits(tmp_path / "splits.json")
