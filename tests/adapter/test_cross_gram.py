import pytest
import torch
from adapter_factories import dense_vector, small_adapter

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.algebra import cross_gram, gram_matrix
from lora_gen.errors import AdapterMismatchError


def test_cross_gram_is_the_dense_inner_products() -> None:
    left = [small_adapter(seed, rank=2 + seed) for seed in range(2)]
    right = [small_adapter(seed, rank=3) for seed in range(5, 8)]
    dense = (
        torch.stack([dense_vector(a) for a in left])
        @ torch.stack([dense_vector(a) for a in right]).T
    )
    torch.testing.assert_close(cross_gram(left, right), dense)


def test_cross_gram_of_blocks_is_a_part_of_the_gram_matrix() -> None:
    adapters = [small_adapter(seed) for seed in range(5)]
    gram = gram_matrix(adapters)
    torch.testing.assert_close(cross_gram(adapters[:2], adapters[2:]), gram[:2, 2:])


def test_cross_gram_counts_missing_modules_as_zero() -> None:
    whole, other = small_adapter(0), small_adapter(1)
    name = next(iter(whole.pairs))
    part = Adapter(pairs={name: whole.pairs[name]}, base=whole.base)
    alone = Adapter(pairs={name: other.pairs[name]}, base=whole.base)
    torch.testing.assert_close(cross_gram([part], [other]), cross_gram([part], [alone]))


def test_cross_gram_refuses_adapters_of_other_shapes() -> None:
    odd = Adapter(pairs={"block.0.proj": small_adapter().pairs["block.1.proj"]})
    with pytest.raises(AdapterMismatchError, match=r"`block.0.proj` has different shapes"):
        cross_gram([small_adapter()], [odd])
