from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from adapter_factories import dense_vector, small_adapter
from hypothesis import given, settings
from hypothesis import strategies as st
from weight_space_factories import regauged

from lora_gen.adapter.profile import cast_factors
from lora_gen.errors import AdapterFormatError, AdapterMismatchError, ConfigError
from lora_gen.safetensors_header import serialize_tensors
from lora_gen.weight_space.basis import SharedBasis
from lora_gen.weight_space.compress import compress_adapter
from lora_gen.weight_space.merge import merge_adapters
from lora_gen.weight_space.quantize import load_quantized, quantize_adapter, save_quantized

SEEDS = st.integers(0, 10_000)
QUICK = settings(max_examples=10, deadline=None)


def relative(first, second) -> float:
    one, two = dense_vector(first), dense_vector(second)
    return float((one - two).norm() / one.norm())


@QUICK
@given(SEEDS, st.integers(1, 4))
def test_rank_states_the_error_of_the_dense_cut(seed, rank):
    adapter = small_adapter(seed, rank=4)
    done = compress_adapter(adapter, rank=rank)
    assert done.error == pytest.approx(relative(adapter, done.adapter), abs=1e-7)
    assert set(done.ranks.values()) == {rank}


@QUICK
@given(SEEDS, st.floats(0.05, 1))
def test_energy_is_kept_and_not_with_a_component_more(seed, energy):
    adapter = small_adapter(seed, rank=4)
    done = compress_adapter(adapter, energy=energy)
    assert 1 - done.error**2 >= energy - 1e-9
    assert done.ranks == compress_adapter(regauged(adapter, 3), energy=energy).ranks
    if energy == 1:
        assert done.adapter.pairs == adapter.pairs


def test_less_energy_never_takes_more_values():
    adapter = small_adapter(1, rank=4)
    sizes = [compress_adapter(adapter, energy=e).adapter.num_parameters for e in (0.3, 0.6, 0.9, 1)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


def test_compress_refuses_what_has_no_meaning():
    adapter = small_adapter(0)
    with pytest.raises(ConfigError, match=r"needs one of `rank` and `energy`\. Pass exactly one"):
        compress_adapter(adapter)
    with pytest.raises(ConfigError, match=r"`energy` is 1\.5, and must be above 0 and at most 1"):
        compress_adapter(adapter, energy=1.5)


@pytest.mark.parametrize(("bits", "bound"), [(8, 0.01), (4, 0.15)])
def test_quantized_is_near_and_the_same_in_any_gauge(bits, bound):
    adapter = small_adapter(2, rank=3)
    near = quantize_adapter(adapter, bits=bits).dequantized()
    other = quantize_adapter(regauged(adapter, 5), bits=bits).dequantized()
    assert relative(adapter, near) < bound
    assert relative(near, other) < bound / 5


@pytest.mark.parametrize("bits", [4, 8])
def test_quantized_file_comes_back_and_saves_to_the_same_bytes(bits, tmp_path: Path):
    quantized = quantize_adapter(small_adapter(2), bits=bits)
    save_quantized(quantized, tmp_path / "one.safetensors")
    back = load_quantized(tmp_path / "one.safetensors")
    save_quantized(back, tmp_path / "two.safetensors")
    assert (tmp_path / "one.safetensors").read_bytes() == (
        tmp_path / "two.safetensors"
    ).read_bytes()
    assert relative(quantized.dequantized(), back.dequantized()) == 0
    assert back.base == "acme/tiny"


def test_half_and_a_quarter_of_float16_on_a_wide_module():
    pair = next(iter(small_adapter(0).pairs.values()))
    wide = pair.with_matrices(torch.randn(4, 256), torch.randn(512, 4))
    adapter = small_adapter(0).__class__(pairs={"m": wide})
    halves = 2 * adapter.num_parameters
    assert quantize_adapter(adapter, bits=8).num_bytes / halves == pytest.approx(0.5, abs=0.02)
    assert quantize_adapter(adapter, bits=4).num_bytes / halves == pytest.approx(0.25, abs=0.02)


def test_a_file_of_another_format_or_with_a_part_missing_is_refused(tmp_path: Path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(serialize_tensors({"a": torch.zeros(2)}))
    with pytest.raises(AdapterFormatError, match=r"`x\.safetensors` is not a quantized adapter"):
        load_quantized(path)
    quantized = quantize_adapter(small_adapter(2))
    broken = {k: v for k, v in quantized.tensors.items() if not k.endswith("b|scales")}
    save_quantized(quantized.__class__(**{**vars(quantized), "tensors": broken}), path)
    with pytest.raises(AdapterFormatError, match=r"`x\.safetensors` is damaged"):
        load_quantized(path)


def test_basis_of_full_size_loses_nothing_and_sums_are_sums_of_cores():
    zoo = [small_adapter(seed, rank=2) for seed in range(4)]
    basis = SharedBasis.fit(zoo, 9)
    cores = [basis.encode(adapter) for adapter in zoo]
    total = {name: cores[0][name] + cores[1][name] for name in cores[0]}
    back = basis.decode(total, zoo[0], rank=4)
    assert relative(merge_adapters(zoo[:2], [1.0, 1.0]).adapter, back) < 1e-9
    assert basis.lost(zoo[0]) < 1e-9


def test_basis_loses_what_it_says_and_less_at_a_larger_size():
    zoo = [small_adapter(seed, rank=2) for seed in range(6)]
    bases = [SharedBasis.fit(zoo, size) for size in (1, 2, 4)]
    back = bases[1].decode(bases[1].encode(zoo[0]), zoo[0], rank=2)
    assert relative(zoo[0], back) ** 2 == pytest.approx(bases[1].lost(zoo[0]), abs=1e-9)
    losses = [sum(basis.lost(adapter) for adapter in zoo) for basis in bases]
    assert losses[0] > losses[1] > losses[2]
    with pytest.raises(AdapterMismatchError, match=r"`other` is not in the basis"):
        bases[0].encode(zoo[0].__class__(pairs={"other": next(iter(zoo[0].pairs.values()))}))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_compressing_keeps_the_precision_unless_a_value_is_too_large(dtype: torch.dtype):
    adapter = cast_factors(small_adapter(1), dtype)
    small = compress_adapter(adapter, rank=1).adapter
    assert {pair.lora_b.dtype for pair in small.pairs.values()} == {dtype}
    name, pair = next(iter(adapter.pairs.items()))
    huge = replace(adapter, pairs={name: replace(pair, scaling=1e12)})
    found = compress_adapter(huge, rank=1).adapter.pairs[name]
    assert bool(found.lora_b.isfinite().all())
