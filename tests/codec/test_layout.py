from __future__ import annotations

import json

import pytest
import torch
from adapter_factories import random_adapter, tiny_spec
from generator_factories import conv_spec, tiny_layout

from lora_gen.codec.layout import NUM_NUMERIC_FEATURES, TokenLayout
from lora_gen.codec.roles import ROLES, role_of
from lora_gen.errors import BaseModelError, LayoutMismatchError

SPECS = {
    "llama": tiny_spec(),
    "gpt2": tiny_spec("GPT2LMHeadModel"),
    "conv": conv_spec(),
}


def _layout(name: str, rank: int = 4, width: int = 16) -> TokenLayout:
    targets = "all-linear" if name != "conv" else ["conv1", "to_q"]
    return TokenLayout.build(SPECS[name], rank=rank, width=width, targets=targets)


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("part", ["slot_roles", "slot_features", "value_mask"])
def test_layout_of_a_smaller_rank_is_a_prefix(name: str, part: str) -> None:
    small, large = _layout(name, 2), _layout(name, 4)
    assert 2 * small.num_tokens == large.num_tokens
    torch.testing.assert_close(
        getattr(small, part), getattr(large, part)[: small.num_tokens], rtol=0, atol=0
    )


@pytest.mark.parametrize("name", SPECS)
def test_layout_survives_json(name: str) -> None:
    layout = _layout(name)
    assert TokenLayout.from_dict(json.loads(json.dumps(layout.to_dict()))) == layout


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("width", [1, 5, 16, 100])
def test_layout_has_a_slot_for_every_weight_and_no_other(name: str, width: int) -> None:
    layout = _layout(name, 3, width)
    adapter = random_adapter(SPECS[name], target=[m.name for m in layout.modules], rank=3)
    assert int(layout.value_mask.sum()) == adapter.num_parameters
    assert layout.value_mask.shape == (layout.num_tokens, width)
    assert bool(layout.value_mask.any(1).all())


@pytest.mark.parametrize("name", SPECS)
def test_layout_features_are_finite_and_tell_slots_apart(name: str) -> None:
    layout = _layout(name)
    features = torch.cat([layout.slot_features, layout.slot_roles[:, None].float()], 1)
    assert layout.slot_features.shape == (layout.num_tokens, NUM_NUMERIC_FEATURES)
    assert bool(layout.slot_features.isfinite().all())
    assert len(features.unique(dim=0)) == layout.num_tokens


def test_layout_depth_goes_from_first_layer_to_last() -> None:
    depths = {m.name.split(".")[2]: m.depth for m in tiny_layout().modules}
    assert depths == {"0": 0.0, "1": 1.0}


def test_layout_flattens_the_kernel_of_a_convolution() -> None:
    conv = _layout("conv").modules[0]
    assert (conv.in_features, conv.kernel, conv.role) == (36, (3, 3), "conv")


@pytest.mark.parametrize("rank", [0, -1, 513])
def test_layout_refuses_a_rank_out_of_range(rank: int) -> None:
    sentence = rf"`rank` must be between 1 and 512, but is {rank}\. Pass a rank such as 4\."
    with pytest.raises(LayoutMismatchError, match=sentence):
        tiny_layout(rank)


def test_layout_refuses_targets_that_the_base_lacks() -> None:
    with pytest.raises(BaseModelError, match="`nothing` matches no module of `acme/tiny`"):
        TokenLayout.build(tiny_spec(), rank=2, width=16, targets=["nothing"])


def test_layout_refuses_the_json_of_another_version() -> None:
    with pytest.raises(LayoutMismatchError, match="`layout` has version 2, but this library reads"):
        TokenLayout.from_dict({**tiny_layout().to_dict(), "version": 2})


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("model.layers.0.self_attn.q_proj", "q"),
        ("transformer.h.1.attn.c_attn", "qkv"),
        ("transformer.h.1.attn.c_proj", "o"),
        ("transformer.h.1.mlp.c_proj", "down"),
        ("bert.encoder.layer.0.attention.output.dense", "o"),
        ("bert.encoder.layer.0.intermediate.dense", "up"),
        ("bert.encoder.layer.0.output.dense", "down"),
        ("unet.down_blocks.0.attentions.0.to_out.0", "o"),
        ("model.strange", "other"),
    ],
)
def test_role_of_reads_the_words_that_architectures_share(name: str, role: str) -> None:
    assert role_of(name) == role
    assert role in ROLES
