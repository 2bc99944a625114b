from dataclasses import fields, replace

import pytest
import torch
from adapter_factories import dense_delta, random_pair, small_adapter
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lora_gen.adapter.adapter import Adapter, LoraPair
from lora_gen.errors import AdapterValueError
from lora_gen.retrieval.features import AdapterFeatures, module_features, unfused
from lora_gen.retrieval.frames import HashedFrames

FRAMES = HashedFrames(6)
SEEDS = st.integers(0, 2**31 - 1)
LAWS = settings(max_examples=30, deadline=None)


def features(adapter: Adapter) -> AdapterFeatures:
    return module_features(adapter, FRAMES)


def difference(left: AdapterFeatures, right: AdapterFeatures) -> float:
    """Largest change of any feature, relative to the size of its group."""
    assert left.modules == right.modules
    worst = 0.0
    for part in fields(left):
        mine, other = getattr(left, part.name), getattr(right, part.name)
        if isinstance(mine, Tensor):
            size = mine.double().norm().clamp_min(1e-12)
            worst = max(worst, float((mine.double() - other.double()).norm() / size))
    return worst


def gauge(rank: int, seed: int, condition: float) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    left, right = (
        torch.linalg.qr(torch.randn(rank, rank, generator=generator, dtype=torch.float64))[0]
        for _ in range(2)
    )
    values = torch.logspace(0, -torch.log10(torch.tensor(condition)), rank, dtype=torch.float64)
    return left * values @ right


def moved(adapter: Adapter, seed: int, condition: float = 1e3) -> Adapter:
    """The same delta weights in another gauge."""
    pairs = {}
    for i, (name, pair) in enumerate(adapter.pairs.items()):
        g = gauge(pair.rank, seed + i, condition)
        pairs[name] = replace(
            pair,
            lora_b=pair.lora_b.double() @ g,
            lora_a=torch.linalg.solve(g, pair.lora_a.double()),
        )
    return replace(adapter, pairs=pairs)


def padded(adapter: Adapter, extra: int) -> Adapter:
    pairs = {
        name: replace(
            pair,
            lora_a=torch.cat([pair.lora_a, torch.randn(extra, pair.in_features).double()]),
            lora_b=torch.nn.functional.pad(pair.lora_b, (0, extra)),
        )
        for name, pair in adapter.pairs.items()
    }
    return replace(adapter, pairs=pairs)


def as_float32(adapter: Adapter) -> Adapter:
    pairs = {
        name: replace(pair, lora_a=pair.lora_a.float(), lora_b=pair.lora_b.float())
        for name, pair in adapter.pairs.items()
    }
    return replace(adapter, pairs=pairs)


@LAWS
@given(SEEDS, st.integers(1, 5))
def test_features_are_those_of_every_gauge(seed: int, rank: int) -> None:
    adapter = small_adapter(seed % 1000, rank=rank)
    assert difference(features(adapter), features(moved(adapter, seed))) <= 1e-9


@LAWS
@given(SEEDS)
def test_features_survive_a_float32_file(seed: int) -> None:
    adapter = small_adapter(seed % 1000)
    assert difference(features(adapter), features(as_float32(moved(adapter, seed)))) <= 1e-4


@LAWS
@given(SEEDS, st.integers(1, 6))
def test_features_do_not_see_padded_rank_in_any_gauge(seed: int, extra: int) -> None:
    adapter = small_adapter(seed % 1000)
    padding = moved(padded(adapter, extra), seed, condition=10.0)
    assert difference(features(adapter), features(padding)) <= 1e-9


@LAWS
@given(st.floats(1e-3, 1e3), SEEDS)
def test_features_do_not_see_how_alpha_is_folded(factor: float, seed: int) -> None:
    adapter = small_adapter(seed % 1000)
    pairs = {
        name: replace(pair, lora_a=pair.lora_a * factor, scaling=pair.scaling / factor)
        for name, pair in adapter.pairs.items()
    }
    assert difference(features(adapter), features(replace(adapter, pairs=pairs))) <= 1e-9


@LAWS
@given(st.permutations(range(3)))
def test_features_do_not_see_the_order_of_keys(order: list[int]) -> None:
    adapter = small_adapter(3)
    names = list(adapter.pairs)
    shuffled = Adapter(pairs={names[i]: adapter.pairs[names[i]] for i in order}, base=adapter.base)
    assert difference(features(adapter), features(shuffled)) == 0


@LAWS
@given(SEEDS, st.floats(1e-4, 1e4))
def test_only_scale_sees_a_stronger_adapter(seed: int, factor: float) -> None:
    adapter = small_adapter(seed % 1000)
    pairs = {n: replace(p, scaling=p.scaling * factor) for n, p in adapter.pairs.items()}
    mine, other = features(adapter), features(replace(adapter, pairs=pairs))
    assert difference(mine, replace(other, scale=mine.scale)) <= 1e-9
    expected = mine.scale + torch.tensor(factor).double().log10()
    torch.testing.assert_close(other.scale, expected)


def test_features_do_not_see_whether_qkv_is_fused() -> None:
    fused_pair = random_pair(16, 8, 3, seed=1)
    fused = Adapter(pairs={"layers.0.attn.qkv_proj": fused_pair}, base="acme/tiny")
    rows = dict(zip("qkv", fused_pair.lora_b.split([8, 4, 4]), strict=True))
    pairs = {
        f"layers.0.attn.{part}_proj": replace(fused_pair, lora_b=lora_b)
        for part, lora_b in rows.items()
    }
    assert difference(features(fused), features(replace(fused, pairs=pairs))) <= 1e-9


def test_gate_and_up_are_split() -> None:
    adapter = Adapter(pairs={"mlp.gate_up_proj": random_pair(12, 4, 2)}, base="acme/tiny")
    assert tuple(unfused(adapter).pairs) == ("mlp.gate_proj", "mlp.up_proj")


def test_sketches_are_those_of_the_dense_delta_weight() -> None:
    adapter = small_adapter(7)
    found = features(adapter)
    for i, (name, pair) in enumerate(adapter.pairs.items()):
        left = FRAMES.of(name, "out", pair.out_features)[1]
        right = FRAMES.of(name, "in", pair.in_features)[1]
        delta = dense_delta(pair)
        u, s, vh = torch.linalg.svd(delta, full_matrices=False)
        soft = u * (s / (s.square() + (0.05 * s[0]) ** 2).sqrt()) @ vh
        for sketch, dense in ((found.linear[i], delta), (found.polar[i], soft)):
            expected = (left.mT @ dense @ right).flatten()
            torch.testing.assert_close(sketch, expected / expected.norm())
        gram = left.mT @ delta @ delta.mT @ left
        expected_gram = float(gram[0, 0] / gram.norm())
        assert float(found.rows[i, 0]) == pytest.approx(expected_gram)


def test_equal_singular_values_do_not_matter() -> None:
    orthogonal = torch.linalg.qr(torch.randn(8, 3, dtype=torch.float64))[0]
    pair = LoraPair(lora_a=orthogonal.mT.clone(), lora_b=orthogonal.clone())
    adapter = Adapter(pairs={"x": pair}, base="acme/tiny")
    assert difference(features(adapter), features(moved(adapter, 5))) <= 1e-9


def test_adapter_without_effect_is_refused() -> None:
    pair = replace(random_pair(4, 4, 2), lora_b=torch.zeros(4, 2))
    with pytest.raises(AdapterValueError, match="has a zero delta weight in every module"):
        features(Adapter(pairs={"x": pair}))
    with pytest.raises(AdapterValueError, match="has no modules"):
        features(Adapter(pairs={}))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_value_that_is_not_finite_is_named(value: float) -> None:
    adapter = small_adapter(1)
    adapter.pairs["block.1.proj"].lora_a[0, 0] = value
    with pytest.raises(AdapterValueError, match=r"`block\.1\.proj\.lora_A` has 1 values"):
        features(adapter)
