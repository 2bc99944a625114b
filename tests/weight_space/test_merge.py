from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from adapter_factories import dense_delta, dense_vector, random_adapter, small_adapter, tiny_model
from adapter_factories import tiny_spec as make_spec
from hypothesis import given, settings
from hypothesis import strategies as st
from weight_space_factories import regauged

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.io import load_adapter, save_adapter
from lora_gen.adapter.peft_config import CONFIG_NAME
from lora_gen.errors import AdapterMismatchError, AdapterValueError, ConfigError
from lora_gen.weight_space import elementwise
from lora_gen.weight_space.merge import METHODS, merge_adapters

SEEDS = st.integers(0, 10_000)
QUICK = settings(max_examples=15, deadline=None)


def dense(adapter: Adapter) -> dict[str, torch.Tensor]:
    return {name: dense_delta(pair).double() for name, pair in adapter.pairs.items()}


@QUICK
@given(SEEDS, st.integers(1, 5), st.integers(1, 5), st.floats(-3, 3), st.floats(-3, 3))
def test_linear_is_dense_arithmetic_at_any_ranks_and_weights(seed, first, second, w, v):
    a, b = small_adapter(seed, rank=first), small_adapter(seed + 1, rank=second)
    merged = merge_adapters([a, b], [w, v])
    expected = w * dense_vector(a) + v * dense_vector(b)
    torch.testing.assert_close(dense_vector(merged.adapter), expected, atol=1e-9, rtol=1e-9)
    assert merged.error == 0


@pytest.mark.parametrize("method", METHODS)
def test_one_adapter_at_weight_one_is_itself(method):
    adapter = small_adapter(3, rank=2)
    assert merge_adapters([adapter], [1.0], method=method).adapter is adapter


@pytest.mark.parametrize("method", [m for m in METHODS if m not in ("tsv", "isotropic")])
def test_copies_of_one_adapter_merge_to_it(method):
    adapter = small_adapter(3, rank=2)
    weights = [0.5, 0.5] if method in ("linear", "geodesic", "task_arithmetic", "dare") else None
    options = {"density": 1.0} if method in ("ties", "dare", "dare_ties", "knots") else {}
    merged = merge_adapters([adapter, regauged(adapter, 1)], weights, method=method, **options)
    torch.testing.assert_close(
        dense_vector(merged.adapter), dense_vector(adapter), atol=1e-9, rtol=0
    )


@pytest.mark.parametrize("method", METHODS)
def test_no_method_sees_the_gauge(method):
    adapters = [small_adapter(seed, rank=2 + seed) for seed in range(3)]
    others = [regauged(adapter, 7) for adapter in adapters]
    one, two = (merge_adapters(given, method=method, rank=3) for given in (adapters, others))
    assert one.error == pytest.approx(two.error, abs=1e-6)
    torch.testing.assert_close(
        dense_vector(one.adapter), dense_vector(two.adapter), atol=1e-7, rtol=1e-7
    )


@QUICK
@given(SEEDS, st.integers(1, 6))
def test_stated_error_is_that_of_the_dense_cut(seed, rank):
    adapters = [small_adapter(seed + i, rank=3) for i in range(2)]
    exact, merged = merge_adapters(adapters), merge_adapters(adapters, rank=rank)
    whole, near = dense_vector(exact.adapter), dense_vector(merged.adapter)
    assert merged.adapter.max_rank <= rank
    assert merged.error == pytest.approx(float((whole - near).norm() / whole.norm()), abs=1e-7)


def ties_by_hand(adapters: list[Adapter], density: float) -> dict[str, torch.Tensor]:
    """The paper's three steps on dense task vectors."""
    vectors = torch.stack([dense_vector(adapter) for adapter in adapters])
    kept = round(density * vectors.shape[1])
    limits = vectors.abs().sort(dim=1, descending=True).values[:, kept - 1 : kept]
    trimmed = torch.where(vectors.abs() >= limits, vectors, 0.0)
    agree = (trimmed.sign() == trimmed.sum(0).sign()) & (trimmed != 0)
    merged = (trimmed * agree).sum(0) / agree.sum(0).clamp_min(1)
    shapes = {name: delta.shape for name, delta in dense(adapters[0]).items()}
    parts = merged.split([shape.numel() for shape in shapes.values()])
    return {n: p.view(s) for (n, s), p in zip(shapes.items(), parts, strict=True)}


@pytest.mark.parametrize("density", [0.2, 0.5, 1.0])
@pytest.mark.parametrize("block", [4, 10, 2**20])
def test_ties_is_the_papers_on_dense_deltas_whatever_the_blocks(density, block, monkeypatch):
    monkeypatch.setattr(elementwise, "BLOCK", block)
    adapters = [small_adapter(seed, rank=3) for seed in range(3)]
    merged = merge_adapters(adapters, method="ties", density=density)
    for name, expected in ties_by_hand(adapters, density).items():
        torch.testing.assert_close(dense(merged.adapter)[name], expected, atol=1e-9, rtol=1e-9)


def test_low_rank_of_rows_is_near_the_best_one_on_a_wide_matrix():
    generator = torch.Generator().manual_seed(0)
    u, v = (torch.linalg.qr(torch.randn(n, 60, generator=generator).double())[0] for n in (90, 80))
    matrix = u * 0.8 ** torch.arange(60).double() @ v.mT
    found = elementwise.low_rank_of_rows(lambda: matrix.split(7), (90, 80), 8)
    best = torch.linalg.svdvals(matrix)[8:].square().sum()
    assert found.squared_error == pytest.approx(float(best), rel=1e-3)
    error = (matrix - found.factors.b @ found.factors.a).square().sum()
    assert float(error) == pytest.approx(found.squared_error, rel=1e-6)


def test_dare_is_linear_on_average_and_the_same_for_a_seed():
    adapters = [small_adapter(seed, rank=2) for seed in range(2)]
    merges = [
        dense_vector(merge_adapters(adapters, method="dare", seed=seed, rank=5).adapter)
        for seed in range(300)
    ]
    expected = dense_vector(merge_adapters(adapters, method="task_arithmetic").adapter)
    mean = torch.stack(merges).mean(0)
    assert float((mean - expected).norm() / expected.norm()) < 0.1
    again = merge_adapters(adapters, method="dare", seed=5, rank=5).adapter
    assert torch.equal(dense_vector(again), merges[5])


def test_knots_keeps_what_only_one_adapter_has():
    adapters = [small_adapter(seed, rank=2, modules=2 + seed) for seed in range(2)]
    merged = merge_adapters(adapters, method="knots", density=1.0)
    assert set(merged.adapter.pairs) == set(adapters[1].pairs)
    name = "block.2.proj"
    torch.testing.assert_close(dense(merged.adapter)[name], dense(adapters[1])[name])


def test_geodesic_mean_of_two_is_the_middle_of_their_geodesic():
    one = small_adapter(0, rank=2)
    near = merge_adapters([one, small_adapter(1, rank=2)], [1.0, 0.1]).adapter
    two = merge_adapters([near], [1.0000001], rank=2).adapter
    merged = merge_adapters([one, two], method="geodesic").adapter
    halves = [distance(one, merged), distance(merged, two)]
    assert halves[0] == pytest.approx(halves[1], rel=1e-4)
    assert sum(halves) == pytest.approx(distance(one, two), rel=1e-3)
    assert merged.max_rank == 2


def distance(one: Adapter, two: Adapter) -> float:
    """Bures-Wasserstein distance of [B; A^T] in balanced gauge, densely, module by module."""
    total = 0.0
    for left, right in zip(dense(one).values(), dense(two).values(), strict=True):
        frames = []
        for delta in (left, right):
            u, s, vh = torch.linalg.svd(delta, full_matrices=False)
            frames.append(torch.cat([u[:, :2], vh[:2].mT]) * s[:2].sqrt())
        overlap = torch.linalg.svdvals(frames[0].mT @ frames[1]).sum()
        total += float(sum(frame.square().sum() for frame in frames) - 2 * overlap)
    return total**0.5


def test_isotropic_gives_every_direction_the_same_singular_value():
    merged = merge_adapters([small_adapter(s, rank=2) for s in range(2)], method="isotropic")
    for delta in dense(merged.adapter).values():
        values = torch.linalg.svdvals(delta)[:4]
        torch.testing.assert_close(values, values.mean().expand(4))


def test_tsv_is_the_sum_when_tasks_share_no_direction():
    one = small_adapter(0, rank=2)
    eye = torch.eye(10, dtype=torch.float64)
    parts = [
        Adapter(
            pairs={"m": one.pairs["block.0.proj"].with_matrices(eye[i : i + 2], eye[:, i : i + 2])}
        )
        for i in (0, 4)
    ]
    merged = merge_adapters(parts, method="tsv").adapter
    torch.testing.assert_close(dense_vector(merged), sum(dense_vector(part) for part in parts))


@pytest.mark.parametrize("rslora", [False, True])
def test_merge_adds_what_peft_applies_where_peft_merges_wrongly(rslora, tmp_path: Path):
    from peft import PeftModel

    spec = make_spec("LlamaForCausalLM")
    for i, (rank, seed) in enumerate(((4, 0), (2, 1))):
        save_adapter(random_adapter(spec, rank=rank, seed=seed), tmp_path / str(i), exact=True)
        config = json.loads((tmp_path / str(i) / CONFIG_NAME).read_text())
        config |= {"use_rslora": rslora, "lora_alpha": 3, "alpha_pattern": {"q_proj": 7}}
        (tmp_path / str(i) / CONFIG_NAME).write_text(json.dumps(config))
    model = PeftModel.from_pretrained(tiny_model("LlamaForCausalLM"), str(tmp_path / "0"), "x")
    model.load_adapter(str(tmp_path / "1"), "y")
    loaded = [load_adapter(tmp_path / str(i)) for i in range(2)]
    merged = dense(merge_adapters(loaded, [0.3, 0.7]).adapter)
    for name, module in model.base_model.model.named_modules():
        if name in merged:
            applied = 0.3 * module.get_delta_weight("x") + 0.7 * module.get_delta_weight("y")
            torch.testing.assert_close(merged[name].float(), applied, atol=1e-6, rtol=1e-6)


def test_merge_refuses_what_has_no_meaning():
    adapters = [small_adapter(0), small_adapter(1)]
    with pytest.raises(AdapterMismatchError, match=r"`weights` has 1 numbers for 2 adapters"):
        merge_adapters(adapters, [1.0])
    with pytest.raises(ConfigError, match=r"`method` is `soup`; choose one of linear, task_arith"):
        merge_adapters(adapters, method="soup")
    with pytest.raises(AdapterValueError, match=r"`weights` holds -1, and a mean on a manifold"):
        merge_adapters(adapters, [2.0, -1.0], method="geodesic")
    with pytest.raises(ConfigError, match=r"`density` is for ties, dare, dare_ties, knots"):
        merge_adapters(adapters, density=0.5)
    with pytest.raises(AdapterMismatchError, match=r"are different bases\. Merge adapters of one"):
        merge_adapters([adapters[0], replace(adapters[1], base="acme/other")])
    with pytest.raises(AdapterMismatchError, match=r"There is no adapter to merge"):
        merge_adapters([])
