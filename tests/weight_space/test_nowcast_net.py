from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from adapter_factories import small_adapter

from lora_gen.adapter.adapter import Adapter
from lora_gen.errors import ConfigError
from lora_gen.weight_space.nowcast import fit_nowcast
from lora_gen.weight_space.nowcast_net import NowcastNet, fit_nowcast_net


def decaying(seed: int, rate: float, length: int = 8) -> list[Adapter]:
    """Factors that approach an end; how fast their steps shrink shows in the steps themselves."""
    start, end = small_adapter(seed), small_adapter(seed + 100)
    return [
        replace(
            start,
            pairs={
                name: replace(
                    pair,
                    lora_a=end.pairs[name].lora_a + rate**step * pair.lora_a,
                    lora_b=end.pairs[name].lora_b + rate**step * pair.lora_b,
                )
                for name, pair in start.pairs.items()
            },
        )
        for step in range(length)
    ]


RATES = (0.5, 0.6, 0.7, 0.8, 0.9)


@pytest.fixture(scope="module")
def net() -> NowcastNet:
    runs = [decaying(seed, rate) for seed, rate in enumerate(RATES)]
    return fit_nowcast_net(runs, spacing=5, ahead=2, differences=2)


def _error(predicted: Adapter, wanted: Adapter) -> float:
    pairs = [(predicted.pairs[n], pair) for n, pair in wanted.pairs.items()]
    return sum(float((p.lora_b - q.lora_b).square().sum()) for p, q in pairs)


def test_network_reads_each_runs_own_rate_and_beats_one_set_of_weights(net: NowcastNet):
    runs = [decaying(seed, rate) for seed, rate in enumerate(RATES)]
    linear = fit_nowcast(runs, spacing=5, ahead=2, differences=2)
    run = decaying(9, 0.55)
    assert _error(net.predict(run[:4]), run[5]) < 0.5 * _error(linear.predict(run[:4]), run[5])
    assert net.horizon == 10


def test_network_turns_with_a_constant_orthogonal_gauge(net: NowcastNet):
    run = decaying(1, 0.7, 3)
    gauge = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0].float()
    turned = [
        replace(
            one,
            pairs={
                n: replace(p, lora_a=gauge.mT @ p.lora_a.float(), lora_b=p.lora_b.float() @ gauge)
                for n, p in one.pairs.items()
            },
        )
        for one in run
    ]
    one, two = net.predict(run), net.predict(turned)
    for name, pair in one.pairs.items():
        wanted = gauge.mT @ pair.lora_a.float()
        torch.testing.assert_close(two.pairs[name].lora_a, wanted, atol=1e-4, rtol=1e-3)


def test_a_run_that_stands_still_stays_where_it_is(net: NowcastNet):
    still = [small_adapter(0)] * 3
    for name, pair in net.predict(still).pairs.items():
        torch.testing.assert_close(pair.lora_a, still[0].pairs[name].lora_a)


def test_network_saves_and_loads(net: NowcastNet, tmp_path: Path):
    net.save(tmp_path / "net.json")
    run = decaying(3, 0.6, 3)
    again = NowcastNet.load(tmp_path / "net.json").predict(run)
    for name, pair in net.predict(run).pairs.items():
        torch.testing.assert_close(again.pairs[name].lora_b, pair.lora_b)
    (tmp_path / "other.json").write_text('{"differences": 2, "network": {}}')
    with pytest.raises(ConfigError, match=r"is not a nowcast network \(RuntimeError\)"):
        NowcastNet.load(tmp_path / "other.json")


def test_network_refuses_runs_that_are_too_short():
    with pytest.raises(ConfigError, match=r"No run has 6 checkpoints that move"):
        fit_nowcast_net([decaying(0, 0.7, 4)], spacing=5, ahead=2)
