from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from weight_space_factories import regauged

from lora_gen.adapter.adapter import Adapter, LoraPair
from lora_gen.adapter.algebra import scale, truncate
from lora_gen.weight_space.augment import noised
from lora_gen.weight_space.lineage import Relation, lineage, row_overlap
from lora_gen.weight_space.merge import merge_adapters
from lora_gen.weight_space.tree import said, tree_rows, tree_svg


def wide(seed: int, rank: int = 3) -> Adapter:
    """Modules so wide that unrelated adapters are nearly orthogonal."""
    generator = torch.Generator().manual_seed(seed)
    pairs = {
        f"block.{i}": LoraPair(
            lora_a=torch.randn(rank, 60, generator=generator).double(),
            lora_b=torch.randn(50, rank, generator=generator).double(),
        )
        for i in range(3)
    }
    return Adapter(pairs=pairs, base="acme/wide")


def later(adapter: Adapter, seed: int) -> Adapter:
    """The same run further on: B has grown and turned, A has hardly moved."""
    generator = torch.Generator().manual_seed(seed)
    pairs = {}
    for name, pair in adapter.pairs.items():
        b, a = (
            torch.randn(x.shape, generator=generator).double() for x in (pair.lora_b, pair.lora_a)
        )
        pairs[name] = replace(
            pair, lora_b=1.3 * pair.lora_b + 0.6 * b, lora_a=pair.lora_a + 0.05 * a
        )
    return replace(adapter, pairs=pairs)


def found(**adapters: Adapter) -> dict[str, Relation]:
    return {relation.child: relation for relation in lineage(adapters)}


def test_unrelated_adapters_have_no_relation():
    assert lineage({str(seed): wide(seed) for seed in range(6)}) == []


def test_copies_multiples_truncations_and_variants_are_told_apart():
    one, noise = wide(0), torch.Generator().manual_seed(0)
    relations = found(
        one=one,
        other=wide(1),
        copy=regauged(one, 2),
        double=scale(one, 2.0),
        cut=truncate(one, 2),
        near=noised(one, 0.1, noise),
    )
    kinds = {"copy": "copy", "double": "scaled", "cut": "truncated", "near": "variant"}
    assert {name: relation.kind for name, relation in relations.items()} == kinds
    assert {relation.parents for relation in relations.values()} == {("one",)}
    assert relations["double"].weights[0] == pytest.approx(2, abs=1e-6)


def test_a_merge_names_its_parents_and_weights_and_they_do_not_name_it():
    parents = {name: wide(seed) for seed, name in enumerate("abcd")}
    merged = merge_adapters([parents["b"], parents["d"]], [0.3, 0.7]).adapter
    relations = found(**parents, sum=merged)
    assert set(relations) == {"sum"}
    assert dict(zip(relations["sum"].parents, relations["sum"].weights, strict=True)) == (
        pytest.approx({"d": 0.7, "b": 0.3}, abs=1e-3)
    )
    assert relations["sum"].explained == pytest.approx(1)


def test_a_merge_cut_to_its_parents_rank_is_found_even_beside_others_of_the_same_parents():
    parents = {name: wide(seed) for seed, name in enumerate("abc")}
    merges = {
        "ab": merge_adapters([parents["a"], parents["b"]], rank=3).adapter,
        "ac": merge_adapters([parents["a"], parents["c"]], rank=3).adapter,
    }
    relations = found(**parents, **merges)
    assert {name: set(r.parents) for name, r in relations.items()} == {
        "ab": {"a", "b"},
        "ac": {"a", "c"},
    }


def test_steps_of_a_run_form_a_chain_by_length():
    first = wide(0)
    second = later(first, 1)
    relations = found(third=later(second, 2), first=first, second=second, other=wide(9))
    assert {r.child: r.parents for r in relations.values()} == {
        "second": ("first",),
        "third": ("second",),
    }
    assert {r.kind for r in relations.values()} == {"checkpoint"}


def test_row_overlap_does_not_see_the_gauge_and_is_one_within_a_space():
    one = wide(0)
    assert row_overlap(one, regauged(one, 1)) == pytest.approx(1)
    assert row_overlap(truncate(one, 1), one) == pytest.approx(1)
    assert row_overlap(one, wide(1)) < 0.2


def test_tree_puts_children_under_their_main_parent_and_draws_every_row():
    relations = [
        Relation(child="b", parents=("a",), kind="copy", weights=(1.0,), explained=1.0),
        Relation(child="m", parents=("b", "x"), kind="merged", weights=(0.7, 0.3), explained=1.0),
    ]
    rows = tree_rows(["a", "b", "m", "x", "alone"], relations)
    assert [(depth, name) for depth, name, _ in rows] == [(0, "a"), (1, "b"), (2, "m")]
    assert said(relations[1]) == "merged from 0.70 b + 0.30 x"
    drawn = tree_svg(rows, {"a": "<first>"})
    assert drawn.count("<circle") == 3
    assert "&lt;first&gt;" in drawn
