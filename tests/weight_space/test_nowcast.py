from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from adapter_factories import small_adapter
from torch import nn

from lora_gen.adapter.adapter import Adapter
from lora_gen.errors import AdapterMismatchError, ConfigError
from lora_gen.weight_space.nowcast import Nowcast, fit_nowcast


def decaying_run(seed: int, length: int = 8, rate: float = 0.7) -> list[Adapter]:
    """Factors that approach an end geometrically: the differences shrink by `rate` a checkpoint."""
    start, end = small_adapter(seed), small_adapter(seed + 100)
    run = []
    for step in range(length):
        pairs = {
            name: replace(
                pair,
                lora_a=end.pairs[name].lora_a + rate**step * pair.lora_a,
                lora_b=end.pairs[name].lora_b + rate**step * pair.lora_b,
            )
            for name, pair in start.pairs.items()
        }
        run.append(replace(start, pairs=pairs))
    return run


def test_a_geometric_run_is_predicted_exactly_from_other_runs():
    nowcast = fit_nowcast([decaying_run(s) for s in range(3)], spacing=5, ahead=2, differences=1)
    run = decaying_run(9)
    predicted = nowcast.predict(run[:3])
    for name, pair in run[4].pairs.items():
        torch.testing.assert_close(predicted.pairs[name].lora_a, pair.lora_a, atol=1e-4, rtol=0)
    assert nowcast.lora_b[0] == pytest.approx(0.7 + 0.49, abs=1e-3)
    assert nowcast.horizon == 10


def test_prediction_turns_with_a_constant_gauge():
    nowcast = Nowcast(lora_a=(0.4, 0.1), lora_b=(0.6, -0.2), spacing=5, horizon=5)
    run = decaying_run(1, 3)
    gauge = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0]
    turned = [
        replace(
            one,
            pairs={
                n: p.with_matrices(gauge.mT @ p.lora_a, p.lora_b @ gauge, scaling=p.scaling)
                for n, p in one.pairs.items()
            },
        )
        for one in run
    ]
    one, two = nowcast.predict(run), nowcast.predict(turned)
    for name, pair in one.pairs.items():
        torch.testing.assert_close(two.pairs[name].lora_a, gauge.mT @ pair.lora_a)


def test_extrapolation_goes_on_along_the_last_difference():
    run = decaying_run(1, 2)
    predicted = Nowcast.extrapolation(spacing=5, horizon=10).predict(run)
    for name, pair in predicted.pairs.items():
        first, last = (one.pairs[name].lora_b for one in run)
        torch.testing.assert_close(pair.lora_b, last + 2 * (last - first))


def test_nowcast_saves_and_loads(tmp_path: Path):
    nowcast = Nowcast(lora_a=(0.4,), lora_b=(0.6,), spacing=5, horizon=10)
    nowcast.save(tmp_path / "nowcast.json")
    assert Nowcast.load(tmp_path / "nowcast.json") == nowcast
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"is not a nowcast \('lora_a'\)"):
        Nowcast.load(tmp_path / "other.json")


def test_nowcast_refuses_what_is_too_short_or_of_several_runs():
    nowcast = Nowcast(lora_a=(0.4,), lora_b=(0.6,), spacing=5, horizon=10)
    with pytest.raises(AdapterMismatchError, match=r"needs 2 checkpoints, and got 1\. Train on"):
        nowcast.predict([small_adapter(0)])
    with pytest.raises(AdapterMismatchError, match=r"so they are not of one run"):
        nowcast.predict([small_adapter(0, rank=2), small_adapter(0, rank=3)])
    with pytest.raises(ConfigError, match=r"No run has 6 checkpoints"):
        fit_nowcast([decaying_run(0, 4)], spacing=5, ahead=2)


class FakeState:
    global_step = 0


def test_callback_moves_the_factors_once_as_the_nowcast_says():
    from lora_gen.evaluation.nowcast_callback import NowcastCallback

    model = nn.Module()
    model.lora_A = nn.Parameter(torch.zeros(2))
    model.other = nn.Parameter(torch.zeros(2))
    callback = NowcastCallback(Nowcast.extrapolation(spacing=2, horizon=4))
    callback.on_train_begin(None, FakeState, None, model=model)
    for step in range(1, 7):
        with torch.no_grad():
            model.lora_A += 1
            model.other += 1
        state = FakeState()
        state.global_step = step
        callback.on_step_end(None, state, None, model=model)
    assert callback.jumped_at == [2]
    assert model.lora_A.tolist() == [10, 10]
    assert model.other.tolist() == [6, 6]


@pytest.mark.parametrize(("best", "share"), [(10.0, 1.0), (6.0, 0.5), (2.0, 0.0)])
def test_callback_goes_as_far_as_the_loss_falls(best: float, share: float):
    from lora_gen.evaluation.nowcast_callback import NowcastCallback

    model = nn.Module()
    model.lora_A = nn.Parameter(torch.zeros(2))
    callback = NowcastCallback(
        Nowcast.extrapolation(spacing=2, horizon=8),
        loss_of=lambda: float((model.lora_A - best).abs().sum()),
    )
    callback.on_train_begin(None, FakeState, None, model=model)
    with torch.no_grad():
        model.lora_A += 2
    state = FakeState()
    state.global_step = 2
    callback.on_step_end(None, state, None, model=model)
    assert callback.shares == [share]
    assert model.lora_A.tolist() == [2 + 8 * share] * 2
