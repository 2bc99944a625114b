from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from adapter_factories import logits_of, merged, random_adapter, random_pair, tiny_model, tiny_spec
from torch import Tensor, nn

from lora_gen.adapter.adapter import Adapter, LoraPair
from lora_gen.adapter.io import save_adapter
from lora_gen.adapter.stacked import stack_adapters, stacked_adapters
from lora_gen.errors import AdapterMismatchError

MODELS = ("LlamaForCausalLM", "GPT2LMHeadModel")
TOKENS = torch.tensor([[1, 5, 9, 14, 3]])


def _adapters(name: str) -> list[Adapter]:
    """Of unequal rank, scaling and target modules."""
    spec = tiny_spec(name)
    return [
        random_adapter(spec, rank=3, seed=1),
        random_adapter(spec, rank=1, scaling=0.5, seed=2),
        random_adapter(spec, target="attention", rank=2, seed=3),
    ]


def _stacked_logits(model: Any, adapters: list[Adapter]) -> Tensor:
    with torch.no_grad(), stacked_adapters(model, stack_adapters(adapters)):
        return model(input_ids=TOKENS.expand(len(adapters), -1)).logits


@pytest.mark.parametrize("name", MODELS)
def test_stack_gives_each_adapter_the_logits_of_its_dense_weights(name: str) -> None:
    adapters = _adapters(name)
    found = _stacked_logits(tiny_model(name), adapters)
    for row, adapter in enumerate(adapters):
        wanted = logits_of(merged(tiny_model(name), adapter), name)[0]
        torch.testing.assert_close(found[row], wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_stack_gives_each_adapter_the_logits_of_peft(name: str, tmp_path: Path) -> None:
    adapters = _adapters(name)
    found = _stacked_logits(tiny_model(name), adapters)
    for row, adapter in enumerate(adapters):
        save_adapter(adapter, tmp_path / str(row))
        loaded = peft.PeftModel.from_pretrained(tiny_model(name), tmp_path / str(row))
        wanted = logits_of(loaded.eval(), name)[0]
        torch.testing.assert_close(found[row], wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_stack_has_the_gradients_of_the_dense_weights(name: str) -> None:
    model = tiny_model(name).requires_grad_(False)
    factors = stack_adapters(_adapters(name)[:2])
    leaves = [f.requires_grad_() for pair in factors.values() for f in pair]
    with stacked_adapters(model, factors):
        model(input_ids=TOKENS.expand(2, -1)).logits.square().sum().backward()
    module = next(iter(factors))
    step = torch.zeros_like(factors[module][1])
    step[0, 0, 0] = 1e-2
    high, low = (_energy(model, factors, module, sign * step) for sign in (1, -1))
    slope = factors[module][1].grad[0, 0, 0]
    torch.testing.assert_close(slope, (high - low) / 2e-2, rtol=0.02, atol=1e-3)
    assert all(bool(leaf.grad.isfinite().all() and leaf.grad.any()) for leaf in leaves)


@torch.no_grad()
def _energy(model: Any, factors: Any, module: str, step: Tensor) -> Tensor:
    a_BRI, b_BOR = factors[module]
    with stacked_adapters(model, {**factors, module: (a_BRI, b_BOR + step)}):
        return model(input_ids=TOKENS.expand(2, -1)).logits.double().square().sum().float()


def test_stack_leaves_the_base_as_it_was_also_after_an_error() -> None:
    model, adapters = tiny_model(MODELS[0]), _adapters(MODELS[0])
    before = logits_of(model, MODELS[0])
    _stacked_logits(model, adapters)
    factors = stack_adapters(adapters)
    with (
        pytest.raises(AdapterMismatchError, match="got 1 rows for 3"),
        stacked_adapters(model, factors),
    ):
        model(input_ids=TOKENS)
    assert torch.equal(logits_of(model, MODELS[0]), before)


def test_stack_of_several_rows_an_adapter_is_adapter_major() -> None:
    model, adapters = tiny_model(MODELS[0]), _adapters(MODELS[0])[:2]
    rows = torch.tensor([[1, 2, 3], [4, 5, 6]])
    with torch.no_grad(), stacked_adapters(model, stack_adapters(adapters)):
        both = model(input_ids=rows.repeat(2, 1)).logits
    for i, adapter in enumerate(adapters):
        with torch.no_grad(), stacked_adapters(model, stack_adapters([adapter])):
            alone = model(input_ids=rows).logits
        torch.testing.assert_close(both[2 * i : 2 * i + 2], alone, atol=1e-5, rtol=1e-5)


def test_stack_refuses_a_module_that_the_base_lacks() -> None:
    factors = stack_adapters([Adapter(pairs={"model.nowhere": random_pair(4, 4)})])
    sentence = r"`model\.nowhere` is not a module of the base \(1 of 1 targets are missing\)"
    with (
        pytest.raises(AdapterMismatchError, match=sentence),
        stacked_adapters(tiny_model(MODELS[0]), factors),
    ):
        pass


def test_stack_refuses_a_batch_that_it_cannot_divide() -> None:
    model, factors = tiny_model(MODELS[0]), stack_adapters(_adapters(MODELS[0])[:2])
    with (
        stacked_adapters(model, factors),
        pytest.raises(
            AdapterMismatchError, match=r"got 3 rows for 2 adapters\. The batch must hold the same"
        ),
    ):
        model(input_ids=TOKENS.expand(3, -1))


def test_stack_refuses_other_shapes() -> None:
    small, large = (Adapter(pairs={"q": random_pair(4, size)}) for size in (4, 5))
    with pytest.raises(AdapterMismatchError, match=r"`q` has shape \(4, 5\) here and \(4, 4\) in"):
        stack_adapters([small, large])


@pytest.mark.parametrize("options", [{"padding": 1}, {"stride": 2}, {"padding": 2, "dilation": 2}])
def test_stacked_convolutions_equal_those_with_the_delta_in_their_weight(
    options: dict[str, int],
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, **options))
    pairs = [
        LoraPair(lora_a=torch.randn(2, 3, 3, 3), lora_b=torch.randn(4, 2, 1, 1), scaling=0.5)
        for _ in range(2)
    ]
    x = torch.randn(6, 3, 8, 8)
    with stacked_adapters(model, stack_adapters([Adapter(pairs={"0": pair}) for pair in pairs])):
        found = model(x)
    for pair, rows, given in zip(pairs, x.split(3), found.split(3), strict=True):
        delta = 0.5 * torch.einsum("or,rihw->oihw", pair.lora_b[:, :, 0, 0], pair.lora_a)
        conv = model[0]
        wanted = nn.functional.conv2d(rows, conv.weight + delta, conv.bias, **options)
        torch.testing.assert_close(given, wanted)
