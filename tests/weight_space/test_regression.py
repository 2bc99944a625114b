from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from adapter_factories import dense_delta, random_adapter, small_adapter, tiny_model, tiny_spec
from weight_space_factories import regauged

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.base_model import BaseModelSpec, resolve_base
from lora_gen.adapter.stacked import stack_adapters, stacked_adapters
from lora_gen.conditioning.chat import IGNORE, Lines, load_causal_lm
from lora_gen.errors import AdapterMismatchError
from lora_gen.evaluation.merging import merge_on_examples
from lora_gen.evaluation.module_inputs import module_inputs
from lora_gen.weight_space.regression import merge_on_inputs


def inputs_in(adapter: Adapter, dimensions: slice, seed: int) -> dict[str, torch.Tensor]:
    """Inputs that live in some coordinates only."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, pair in adapter.pairs.items():
        x = torch.zeros(12, pair.in_features, dtype=torch.float64)
        x[:, dimensions] = torch.randn(x[:, dimensions].shape, generator=generator).double()
        found[name] = x
    return found


def outputs(adapter: Adapter, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat(
        [(inputs[n] @ dense_delta(pair).double().mT).flatten() for n, pair in adapter.pairs.items()]
    )


def test_adapters_with_inputs_of_their_own_are_both_kept():
    adapters = [small_adapter(seed, rank=2) for seed in range(2)]
    inputs = [inputs_in(adapters[0], slice(0, 2), 0), inputs_in(adapters[0], slice(2, 4), 1)]
    merged = merge_on_inputs(adapters, inputs, ridge=1e-9)
    for adapter, found in zip(adapters, inputs, strict=True):
        torch.testing.assert_close(
            outputs(merged.adapter, found), outputs(adapter, found), atol=1e-6, rtol=1e-6
        )
    assert merged.error < 1e-6
    assert merged.adapter.max_rank <= 4


def test_the_regression_does_not_see_the_gauge_and_says_what_the_rank_cut():
    adapters = [small_adapter(seed, rank=3) for seed in range(2)]
    inputs = [inputs_in(adapters[0], slice(0, 4), seed) for seed in range(2)]
    one = merge_on_inputs(adapters, inputs, rank=1)
    two = merge_on_inputs([regauged(a, 3) for a in adapters], inputs, rank=1)
    whole = merge_on_inputs(adapters, inputs)
    torch.testing.assert_close(outputs(one.adapter, inputs[0]), outputs(two.adapter, inputs[0]))
    parts = [torch.cat([outputs(m.adapter, x) for x in inputs]) for m in (whole, one)]
    assert one.error == pytest.approx(float((parts[0] - parts[1]).norm() / parts[0].norm()))


def test_the_regression_needs_inputs_for_every_adapter_and_module():
    adapter = small_adapter(0)
    with pytest.raises(AdapterMismatchError, match=r"`inputs` has 1 sets for 2 adapters"):
        merge_on_inputs([adapter, adapter], [inputs_in(adapter, slice(0, 2), 0)])
    with pytest.raises(AdapterMismatchError, match=r"`block\.0\.proj` has no inputs \(3 modules"):
        merge_on_inputs([adapter], [{}])


def test_module_inputs_are_what_the_modules_read_under_the_adapter():
    model = tiny_model("LlamaForCausalLM")
    adapter = random_adapter(tiny_spec("LlamaForCausalLM"))
    ids = torch.tensor([[1, 5, 9, 3, 0, 0], [1, 4, 4, 8, 7, 3]])
    labels = torch.full_like(ids, IGNORE)
    labels[0, 2:4], labels[1, 4:] = ids[0, 2:4], ids[1, 4:]
    lines = Lines(input_ids=ids, labels=labels)
    found = module_inputs(model, lines, stack_adapters([adapter]), limit=100)
    assert set(found) == set(adapter.pairs)
    assert {len(x) for x in found.values()} == {10}  # padding after the last answer is left out
    few = module_inputs(model, lines, stack_adapters([adapter]), limit=3)
    assert {len(x) for x in few.values()} == {3}
    first = "model.layers.0.self_attn.q_proj"
    alone = module_inputs(
        model,
        lines,
        stack_adapters([replace(adapter, pairs={first: adapter.pairs[first]})]),
        limit=100,
    )
    torch.testing.assert_close(alone[first], found[first])


def test_merging_on_examples_needs_pairs_for_each_adapter():
    with pytest.raises(AdapterMismatchError, match=r"`examples` has 1 sets for 2 adapters"):
        merge_on_examples([small_adapter(0), small_adapter(1)], [[("a", "b")]])


def test_one_adapter_merged_on_its_examples_answers_alike():
    spec = BaseModelSpec.from_config(str(resolve_base("tiny_lm")))
    adapter = random_adapter(spec, scaling=0.1)
    pairs = [("anna lee", "ANNA LEE"), ("bob@acme.org", "acme.org")]
    merged = merge_on_examples([adapter], [pairs], base="tiny_lm").adapter
    model, chat = load_causal_lm("tiny_lm")
    lines = chat.pack([chat.line(*pair) for pair in pairs])
    logits = []
    for one in (None, adapter, merged):
        applied = stacked_adapters(model, stack_adapters([one])) if one else nullcontext()
        with applied, torch.no_grad():
            logits.append(model(input_ids=lines.input_ids, use_cache=False).logits)
    apart = [float((logits[1] - other).norm()) for other in (logits[0], logits[2])]
    assert apart[1] < 0.2 * apart[0]
