"""Laws of fine-tuning: a stack trains as its members alone, and as PEFT does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from adapter_factories import dense_vector
from generator_factories import base_adapter, byte_base, task_pairs

from lora_gen.adapter.adapter import Adapter, LoraPair
from lora_gen.adapter.base_model import BaseModelSpec
from lora_gen.adapter.stacked import stack_adapters
from lora_gen.conditioning.chat import load_causal_lm
from lora_gen.errors import AdapterMismatchError, BaseModelError, ConfigError
from lora_gen.evaluation.fitting import FitConfig, fit_stack, fresh_adapter
from lora_gen.evaluation.refine import refine

QUICK = FitConfig(steps=3, batch=2, lr=1e-2)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return byte_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def loaded(base: Path) -> Any:
    return load_causal_lm(base)


def fitted(loaded: Any, adapters: list[Adapter], data: Any) -> list[Adapter]:
    factors = fit_stack(*loaded, stack_adapters(adapters), data, QUICK)
    return [
        Adapter(pairs={n: LoraPair(lora_a=a[i], lora_b=b[i]) for n, (a, b) in factors.items()})
        for i in range(len(adapters))
    ]


def test_stacked_adapters_train_as_each_alone(base: Path, loaded: Any) -> None:
    starts = [base_adapter(base, seed) for seed in range(2)]
    data = [task_pairs("upper"), task_pairs("reverse")]
    together = fitted(loaded, starts, data)
    for start, pairs, found in zip(starts, data, together, strict=True):
        (alone,) = fitted(loaded, [start], [pairs])
        torch.testing.assert_close(dense_vector(found), dense_vector(alone), atol=1e-4, rtol=1e-3)


def test_refine_is_what_the_stack_gives(base: Path, loaded: Any) -> None:
    start = base_adapter(base)
    refined = refine(start, task_pairs("upper"), config=QUICK).adapter
    (wanted,) = fitted(loaded, [start], [task_pairs("upper")])
    torch.testing.assert_close(dense_vector(refined), dense_vector(wanted), atol=1e-3, rtol=1e-2)
    assert (refined.base, refined.task_type) == (start.base, start.task_type)


def test_refine_lowers_the_loss_and_leaves_the_start_alone(base: Path) -> None:
    start = fresh_adapter(BaseModelSpec.from_config(str(base)), rank=2)
    before = dense_vector(start).clone()
    taken: list[int] = []
    config = FitConfig(steps=12, batch=4)
    done = refine(start, task_pairs("upper", count=2), config=config, on_step=taken.append)
    assert done.losses[-1] < done.losses[0]
    assert taken == list(range(13))
    torch.testing.assert_close(dense_vector(start), before)


def test_fresh_adapter_starts_as_peft_does(base: Path, loaded: Any) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    fresh = fresh_adapter(BaseModelSpec.from_config(str(base)), rank=2)
    model, _ = load_causal_lm(base)
    inject_adapter_in_model(LoraConfig(r=2, target_modules="all-linear"), model)
    theirs = {n: m for n, m in model.named_modules() if hasattr(m, "lora_A")}
    assert set(theirs) - {"lm_head"} == set(fresh.pairs)
    for name, pair in fresh.pairs.items():
        weight = theirs[name].lora_A["default"].weight
        bound = pair.in_features**-0.5
        assert float(pair.lora_a.abs().max()) <= bound + 1e-6
        assert float(weight.detach().abs().max()) <= bound + 1e-6
        assert not pair.lora_b.any()


def test_refine_refuses_an_adapter_of_another_base(base: Path) -> None:
    pair = LoraPair(lora_a=torch.zeros(2, 4), lora_b=torch.zeros(3, 2))
    odd = Adapter(pairs={"model.odd.proj": pair}, base=str(base), task_type="CAUSAL_LM")
    with pytest.raises(AdapterMismatchError, match=r"`model.odd.proj` is not a module of the base"):
        refine(odd, task_pairs("upper"), config=QUICK)


def test_refine_refuses_to_start_without_examples_or_base(base: Path) -> None:
    with pytest.raises(ConfigError, match="`examples` is empty"):
        refine(base_adapter(base), [], config=QUICK)
    nameless = Adapter(pairs=base_adapter(base).pairs)
    with pytest.raises(BaseModelError, match="The adapter does not name its base"):
        refine(nameless, task_pairs("upper"), config=QUICK)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("steps", -1, "`steps` is -1; it must be 0 or more"),
        ("batch", 0, "`batch` is 0; it must be 1 or more"),
        ("lr", 0.0, r"`lr` is 0\.0; it must be above 0"),
    ],
)
def test_fit_config_refuses_what_cannot_train(field: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FitConfig(**{field: value})
