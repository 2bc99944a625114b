from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from adapter_factories import tiny_spec
from generator_factories import conv_spec, tiny_condition

from lora_gen.conditioning.base import NUM_BASE_FEATURES, base_features
from lora_gen.conditioning.condition import (
    MAX_BYTES,
    MAX_ITEMS,
    Condition,
    base_condition,
    encode_examples,
    encode_prompts,
)
from lora_gen.errors import ConditionError

PARTS = [field.name for field in fields(Condition)]


def test_encode_prompts_shifts_bytes_by_one_and_pads_with_zero() -> None:
    packed = encode_prompts([["Ab", "\x00é"], ["c"]])
    assert packed.tolist() == [[[66, 99, 0], [1, 0xC3 + 1, 0xA9 + 1]], [[100, 0, 0], [0, 0, 0]]]


def test_encode_examples_puts_a_tab_between_input_and_output() -> None:
    assert torch.equal(encode_examples([[("ab", "AB")]]), encode_prompts([["ab\tAB"]]))


def test_encode_prompts_leaves_a_row_without_strings_empty() -> None:
    assert encode_prompts([[], ["ab"]])[0].sum() == 0
    assert encode_prompts([[], []]).shape == (2, 1, 1)


def test_encode_prompts_takes_the_longest_line_and_the_most_lines() -> None:
    packed = encode_prompts([["é" * (MAX_BYTES // 2)] * MAX_ITEMS])
    assert packed.shape == (1, MAX_ITEMS, MAX_BYTES)


@pytest.mark.parametrize("text", ["", "  ", "x" * (MAX_BYTES + 1)])
def test_encode_prompts_refuses_a_line_without_text_or_too_long(text: str) -> None:
    sentence = rf"`prompts` holds a line of {len(text)} bytes, but a line must have between 1 and"
    with pytest.raises(ConditionError, match=sentence):
        encode_prompts([[text]])


def test_encode_examples_refuses_an_empty_pair_and_counts_the_separator() -> None:
    with pytest.raises(ConditionError, match=r"`examples` holds a line of 1 bytes"):
        encode_examples([[("", "")]])
    with pytest.raises(ConditionError, match=r"`examples` holds a line of 257 bytes"):
        encode_examples([[("x" * 128, "y" * 128)]])


def test_encode_prompts_refuses_too_many_lines() -> None:
    sentence = r"`prompts` has 17 lines, but at most 16 are read\. Choose 16 of them\."
    with pytest.raises(ConditionError, match=sentence):
        encode_prompts([["a"] * 17])


def test_encode_prompts_refuses_a_lone_surrogate() -> None:
    with pytest.raises(ConditionError, match="`prompts` holds text that is not valid Unicode"):
        encode_prompts([["\ud800"]])


def test_encode_prompts_refuses_one_string_in_place_of_a_list() -> None:
    sentence = "`prompts` is one string, but must be a list of strings. Wrap it in a list."
    with pytest.raises(ConditionError, match=sentence):
        encode_prompts(["maria lopez"])


def test_condition_null_drops_all_but_the_base_and_the_latent() -> None:
    null = tiny_condition().null()
    assert [name for name in PARTS if getattr(null, name) is not None] == [
        "base_features",
        "latent",
    ]
    assert null.batch_size == 2


@pytest.mark.parametrize("part", ["text", "prompts", "examples"])
def test_condition_null_drops_only_what_it_is_told(part: str) -> None:
    keep = {"text": False, "prompts": False, "examples": False, part: True}
    found = tiny_condition().null(**keep)
    dropped = {name for name in PARTS if getattr(found, name) is None}
    assert dropped == {name for name in PARTS if name.startswith(part.rstrip("s"))}


def test_condition_expand_keeps_copies_of_a_row_together() -> None:
    condition = tiny_condition()
    many = condition.expand(3)
    for name in PARTS:
        rows = getattr(condition, name)
        assert torch.equal(getattr(many, name), rows[torch.tensor([0, 0, 0, 1, 1, 1])])


def test_condition_batch_size_is_that_of_any_part() -> None:
    assert Condition().batch_size == 1
    assert Condition(prompt_bytes=encode_prompts([["a"], ["b"], []])).batch_size == 3


@pytest.mark.parametrize("name", ["LlamaForCausalLM", "GPT2LMHeadModel", "conv"])
def test_base_features_are_finite_and_mark_their_presence(name: str) -> None:
    features = base_features(conv_spec() if name == "conv" else tiny_spec(name))
    assert features.shape == (NUM_BASE_FEATURES,)
    assert bool(features.isfinite().all())
    assert features[0] == 1


def test_base_features_know_sizes_and_not_names() -> None:
    spec = tiny_spec()
    assert torch.equal(base_features(spec), base_features(replace(spec, id="other/name")))
    assert not torch.equal(base_features(spec), base_features(replace(spec, hidden_size=4096)))
    assert base_condition(spec, 3).shape == (3, NUM_BASE_FEATURES)
