from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from adapter_factories import dense_vector, random_adapter, tiny_spec
from generator_factories import conv_spec

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.algebra import resize, scale
from lora_gen.adapter.base_model import BaseModelSpec
from lora_gen.codec.canonical import canonicalize
from lora_gen.codec.codec import AdapterCodec
from lora_gen.codec.layout import TokenLayout
from lora_gen.codec.scaling import TokenScaling
from lora_gen.errors import LayoutMismatchError

SPECS = {"llama": tiny_spec(), "gpt2": tiny_spec("GPT2LMHeadModel"), "conv": conv_spec()}
SCALING = TokenScaling(log_means={"q/A": -1.0, "q/B": -3.0}, default_log_mean=-2.0, log_std=0.7)
CASES = [("llama", 16), ("llama", 5), ("gpt2", 16), ("conv", 7)]


def _targets(spec: BaseModelSpec) -> Any:
    return ["conv1", "to_q"] if spec.kind == "diffusers" else "all-linear"


def _codec(name: str = "llama", width: int = 16, rank: int = 4) -> AdapterCodec:
    spec = SPECS[name]
    layout = TokenLayout.build(spec, rank=rank, width=width, targets=_targets(spec))
    return AdapterCodec(layout=layout, scaling=SCALING)


def _adapter(name: str = "llama", rank: int = 4, seed: int = 0) -> Adapter:
    return random_adapter(SPECS[name], target=_targets(SPECS[name]), rank=rank, seed=seed)


def _assert_equal(left: Adapter, right: Adapter) -> None:
    assert list(left.pairs) == list(right.pairs)
    for name, pair in left.pairs.items():
        other = right.pairs[name]
        torch.testing.assert_close(pair.lora_a, other.lora_a, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(pair.lora_b, other.lora_b, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("name", "width"), CASES)
def test_codec_decode_of_encode_is_the_canonical_adapter(name: str, width: int) -> None:
    codec, adapter = _codec(name, width), _adapter(name)
    found = codec.decode(codec.encode(adapter), base="acme/tiny", task_type="CAUSAL_LM")
    _assert_equal(found, canonicalize(adapter))
    assert (found.base, found.task_type) == ("acme/tiny", "CAUSAL_LM")


@pytest.mark.parametrize(("name", "width"), CASES)
def test_codec_encode_of_decode_is_the_same_tokens(name: str, width: int) -> None:
    codec = _codec(name, width)
    tokens = codec.encode(_adapter(name))
    torch.testing.assert_close(codec.encode(codec.decode(tokens)), tokens, atol=1e-4, rtol=1e-4)


def test_codec_tokens_of_a_smaller_rank_are_a_prefix() -> None:
    adapter = _adapter(rank=2)
    small, large = _codec(rank=2).encode(adapter), _codec(rank=4).encode(adapter)
    torch.testing.assert_close(large[: len(small)], small)
    assert not large[len(small) :, :-1].any()
    _assert_equal(_codec(rank=4).decode(large), resize(_codec(rank=2).decode(small), 4))


def test_codec_keeps_a_zero_adapter_at_zero() -> None:
    codec = _codec()
    tokens = codec.encode(scale(_adapter(), 0.0))
    assert bool(tokens.isfinite().all())
    assert not dense_vector(codec.decode(tokens)).any()


def test_codec_carries_sizes_over_eight_decades() -> None:
    codec, adapter = _codec(), _adapter()
    for factor in (1e-6, 1e2):
        wanted = scale(adapter, factor)
        found = dense_vector(codec.decode(codec.encode(wanted)))
        torch.testing.assert_close(found / factor, dense_vector(adapter), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_codec_factors_of_a_batch_are_those_of_each_adapter(name: str) -> None:
    codec = _codec(name, 5)
    tokens = torch.stack([codec.encode(_adapter(name, seed=seed)) for seed in range(2)])
    factors = codec.factors(tokens)
    for row in range(2):
        for module, pair in codec.decode(tokens[row]).pairs.items():
            torch.testing.assert_close(factors[module][0][row], pair.lora_a)
            torch.testing.assert_close(factors[module][1][row], pair.lora_b)


def test_codec_factors_pass_gradients_to_every_value_and_size() -> None:
    codec = _codec(width=5)
    tokens = torch.randn(1, codec.layout.num_tokens, 6, requires_grad=True)
    sum(f.square().sum() for pair in codec.factors(tokens).values() for f in pair).backward()
    assert torch.equal(tokens.grad[0, :, :-1] != 0, codec.layout.value_mask.bool())
    assert bool((tokens.grad[0, :, -1] != 0).all())


def test_codec_survives_the_json_of_its_parts() -> None:
    codec = _codec()
    layout = TokenLayout.from_dict(json.loads(json.dumps(codec.layout.to_dict())))
    scaling = TokenScaling(**json.loads(json.dumps(dict(vars(codec.scaling)))))
    tokens = codec.encode(_adapter())
    assert torch.equal(AdapterCodec(layout=layout, scaling=scaling).encode(_adapter()), tokens)


def test_codec_refuses_an_adapter_of_other_modules() -> None:
    adapter = _adapter()
    fewer = replace(adapter, pairs=dict(list(adapter.pairs.items())[1:]))
    sentence = r"is missing from the adapter \(1 modules differ\)\. Build the layout for the"
    with pytest.raises(LayoutMismatchError, match=sentence):
        _codec().encode(fewer)
    more = replace(adapter, pairs={**adapter.pairs, "z": next(iter(adapter.pairs.values()))})
    with pytest.raises(LayoutMismatchError, match=r"`z` is not in the layout"):
        _codec().encode(more)


def test_codec_refuses_a_larger_rank() -> None:
    sentence = r"`adapter` has rank 4, but this layout was built for rank 2\. Pass `rank=4` or"
    with pytest.raises(LayoutMismatchError, match=sentence):
        _codec(rank=2).encode(_adapter(rank=4))


def test_codec_refuses_shapes_of_another_base() -> None:
    codec, adapter = _codec(), _adapter()
    name, pair = next(iter(adapter.pairs.items()))
    wide = replace(pair, lora_a=torch.cat([pair.lora_a, pair.lora_a], 1))
    sentence = "in the layout. The adapter belongs to another base"
    with pytest.raises(LayoutMismatchError, match=sentence):
        codec.encode(replace(adapter, pairs={**adapter.pairs, name: wide}))


def test_codec_refuses_tokens_of_another_layout() -> None:
    sentence = r"`tokens` have shape \(3, 17\), but the layout needs \(\d+, 17\)\."
    with pytest.raises(LayoutMismatchError, match=sentence):
        _codec().decode(torch.zeros(3, 17))
