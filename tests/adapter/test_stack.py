"""A stack answers what dense delta weights would."""

import pytest
import torch
from torch import Tensor

from lora_gen.adapter.adapter import Adapter, LoraPair
from lora_gen.adapter.algebra import cross_gram
from lora_gen.adapter.stack import AdapterStack
from lora_gen.errors import AdapterMismatchError

SHAPES = {"model.q_proj": (6, 5), "model.up_proj": (4, 7)}


def _adapter(seed: int, *, names: tuple[str, ...] = tuple(SHAPES), rank: int = 2) -> Adapter:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    pairs = {
        name: LoraPair(
            lora_a=draw(rank, SHAPES[name][1]),
            lora_b=draw(SHAPES[name][0], rank),
            scaling=0.5 + seed,
        )
        for name in names
    }
    return Adapter(pairs=pairs, base="tiny_lm", task_type="CAUSAL_LM")


def _dense_product(left: Adapter, right: Adapter) -> float:
    shared = left.pairs.keys() & right.pairs.keys()
    deltas = [
        [a.pairs[n].scaling * a.pairs[n].lora_b @ a.pairs[n].lora_a for n in sorted(shared)]
        for a in (left, right)
    ]
    return float(sum((x * y).sum() for x, y in zip(*deltas, strict=True)))


def test_stack_gives_the_inner_products_of_dense_delta_weights() -> None:
    left = [_adapter(0), _adapter(1, names=("model.q_proj",), rank=3)]
    right = [_adapter(2, rank=1), _adapter(3, names=("model.up_proj",)), _adapter(4)]
    found = AdapterStack(left).inner_products(AdapterStack(right))
    asked = [[_dense_product(x, y) for y in right] for x in left]
    torch.testing.assert_close(found, torch.tensor(asked, dtype=torch.float64), rtol=1e-5, atol=0)


def test_stack_in_float32_agrees_to_its_precision() -> None:
    many = [_adapter(seed) for seed in range(5)]
    small = AdapterStack(many, dtype=torch.float32)
    torch.testing.assert_close(
        small.inner_products(small), cross_gram(many, many), rtol=1e-5, atol=1e-4
    )


def test_stack_refuses_modules_of_other_shapes() -> None:
    pair = LoraPair(lora_a=torch.ones(2, 3), lora_b=torch.ones(6, 2))
    other = Adapter(pairs={"model.q_proj": pair}, base="tiny_lm", task_type="CAUSAL_LM")
    with pytest.raises(AdapterMismatchError, match="different shapes"):
        AdapterStack([_adapter(0)]).inner_products(AdapterStack([other]))


def test_stack_without_shared_modules_gives_zeros() -> None:
    left, right = _adapter(0, names=("model.q_proj",)), _adapter(1, names=("model.up_proj",))
    assert AdapterStack([left]).inner_products(AdapterStack([right])).tolist() == [[0.0]]
