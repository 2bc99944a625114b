from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from adapter_factories import random_adapter, tiny_spec

from lora_gen.adapter.adapter import Adapter
from lora_gen.adapter.algebra import resize, truncate
from lora_gen.errors import AdapterMismatchError, BaseModelError, ConfigError
from lora_gen.weight_space.choose import options_within, ranked_options

SPEC = tiny_spec()


def test_options_cost_what_peft_would_train():
    options = options_within(SPEC, 10**9, ranks=(1, 3))
    for option in options:
        adapter = random_adapter(SPEC, rank=option.rank, target=option.targets)
        assert adapter.num_parameters == option.parameters
        assert set(adapter.pairs) == set(option.modules)


def test_every_option_is_within_the_budget():
    costs = [option.parameters for option in options_within(SPEC, 10**9)]
    budget = sorted(costs)[len(costs) // 2]
    within = options_within(SPEC, budget)
    assert {option.parameters for option in within} == {cost for cost in costs if cost <= budget}


def test_enough_room_keeps_all_and_the_cheapest_such_option_is_first():
    adapter = random_adapter(SPEC, rank=4, target="attention")
    best = ranked_options(options_within(SPEC, 10**9), [adapter])[0]
    assert best.kept == pytest.approx(1.0)
    assert (best.option.targets, best.option.rank) == ("attention", 4)


def test_kept_is_the_energy_of_the_cut_adapter():
    adapter = random_adapter(SPEC, rank=4)
    for one in ranked_options(options_within(SPEC, 10**9, ranks=(2,)), [adapter]):
        cut = truncate(_only(adapter, one.option.modules), 2)
        assert one.kept == pytest.approx(_energy(cut) / _energy(adapter), rel=1e-4)


def _only(adapter: Adapter, names: tuple[str, ...]) -> Adapter:
    return replace(adapter, pairs={name: adapter.pairs[name] for name in names})


def _energy(adapter: Adapter) -> float:
    matrices = [pair.folded().matrices() for pair in adapter.pairs.values()]
    return sum(float((b @ a).double().square().sum()) for a, b in matrices)


def test_the_choice_sees_neither_gauge_nor_padding():
    adapter = random_adapter(SPEC, rank=3)
    turn = torch.tensor([[2.0, 1, 0], [0, 1, 3], [1, 0, 1]])
    turned = replace(
        adapter,
        pairs={
            n: p.with_matrices(turn.inverse() @ p.lora_a.float(), p.lora_b.float() @ turn)
            for n, p in adapter.pairs.items()
        },
    )
    options = options_within(SPEC, 10**9)
    one, two, wide = (ranked_options(options, [a]) for a in (adapter, turned, resize(adapter, 8)))
    for a, b, c in zip(one, two, wide, strict=True):
        assert a.kept == pytest.approx(b.kept, abs=1e-4) == pytest.approx(c.kept, abs=1e-4)


def test_choosing_refuses_what_cannot_be_chosen_from():
    with pytest.raises(ConfigError, match=r"`budget` is 1 parameters, and the smallest option"):
        options_within(SPEC, 1)
    with pytest.raises(BaseModelError, match=r"`odd_proj` matches no module"):
        options_within(SPEC, 10**9, targets=[("odd_proj",)])
    with pytest.raises(AdapterMismatchError, match=r"There are 0 like adapters"):
        ranked_options(options_within(SPEC, 10**9), [])
