from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from adapter_factories import random_adapter, tiny_spec

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.algebra import resize
from lora_gen.errors import AdapterMismatchError
from lora_gen.weight_space.kinship import kinships, nearest_kin

SPEC = tiny_spec()


def other_rows(adapter: Adapter, seed: int) -> Adapter:
    """What writes the same, read from other inputs: another training from another start."""
    source = torch.Generator().manual_seed(seed)
    pairs = {}
    for name, pair in adapter.pairs.items():
        rows = torch.linalg.qr(torch.randn(pair.in_features, pair.rank, generator=source))[0]
        lengths = torch.linalg.qr(pair.lora_a.float().mT)[1]
        pairs[name] = replace(pair, lora_a=(rows @ lengths).mT.contiguous())
    return replace(adapter, pairs=pairs)


def test_kinship_is_the_cosine_of_what_is_written():
    one, two = random_adapter(SPEC, rank=2), random_adapter(SPEC, rank=3, seed=7)
    total = 0.0
    for name, pair in one.pairs.items():
        deltas = [(b @ a).double() for a, b in (pair.matrices(), two.pairs[name].matrices())]
        grams = [delta @ delta.mT for delta in deltas]
        total += float((grams[0] * grams[1]).sum() / grams[0].norm() / grams[1].norm())
    assert float(kinships([one], [two])[0, 0]) == pytest.approx(total / len(one.pairs), rel=1e-4)


def test_kinship_does_not_see_gauge_padding_or_size():
    one, two = random_adapter(SPEC, rank=3), random_adapter(SPEC, rank=3, seed=7)
    turn = torch.tensor([[2.0, 1, 0], [0, 1, 3], [1, 0, 1]])
    pairs = {
        n: p.with_matrices(turn.inverse() @ p.lora_a.float(), 5 * p.lora_b.float() @ turn)
        for n, p in one.pairs.items()
    }
    changed = resize(replace(one, pairs=pairs), 6)
    torch.testing.assert_close(
        kinships([changed], [two]), kinships([one], [two]), rtol=1e-3, atol=0
    )


def test_a_student_finds_the_adapter_that_writes_like_it():
    zoo = {f"task-{i}": random_adapter(SPEC, rank=2, seed=100 * i) for i in range(10)}
    zoo["student"] = other_rows(zoo["task-3"], 5)
    found = {kin.name: kin for kin in nearest_kin(zoo)}
    assert (found["student"].nearest, found["task-3"].nearest) == ("task-3", "student")
    assert found["student"].is_akin
    assert found["student"].kinship == pytest.approx(1, abs=1e-4)


def test_kinship_needs_others_to_know_what_is_usual():
    few = {f"task-{i}": random_adapter(SPEC, rank=2, seed=i) for i in range(3)}
    with pytest.raises(AdapterMismatchError, match=r"There are 3 adapters, too few to know"):
        nearest_kin(few)
    with pytest.raises(AdapterMismatchError, match=r"0 and 1 adapters share 0 modules"):
        kinships([], [few["task-0"]])
