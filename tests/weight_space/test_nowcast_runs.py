"""A run goes where those like it went."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from adapter_factories import small_adapter
from torch import nn

from lora_gen.adapter.adapter import Adapter
from lora_gen.errors import AdapterMismatchError, ConfigError
from lora_gen.weight_space.nowcast_runs import NowcastOfRuns, fit_nowcast_runs

GOALS = [small_adapter(seed) for seed in (101, 102, 103)]


def run_to(shares: tuple[float, float, float], length: int = 9) -> list[Adapter]:
    """A run from one start towards a mixture of three goals, nearer by a third each checkpoint."""
    start = small_adapter(0)
    run = []
    for step in range(length):
        part = 1 - (2 / 3) ** step
        pairs = {}
        for name, pair in start.pairs.items():
            ends = [goal.pairs[name] for goal in GOALS]
            mixed = [
                sum(s * getattr(end, side) for s, end in zip(shares, ends, strict=True))
                for side in ("lora_a", "lora_b")
            ]
            pairs[name] = replace(
                pair,
                lora_a=torch.lerp(pair.lora_a, mixed[0], part),
                lora_b=torch.lerp(pair.lora_b, mixed[1], part),
            )
        run.append(replace(start, pairs=pairs))
    return run


def known(count: int = 12) -> list[list[Adapter]]:
    source = torch.Generator().manual_seed(0)
    drawn = torch.distributions.Dirichlet(torch.ones(3))
    with torch.random.fork_rng():
        torch.manual_seed(int(source.initial_seed()))
        return [run_to(tuple(drawn.sample().tolist())) for _ in range(count)]


@pytest.fixture(scope="module")
def nowcast() -> NowcastOfRuns:
    return fit_nowcast_runs(known(), spacing=3, at=2, ends=1)


def _apart(left: Adapter, right: Adapter) -> float:
    parts = [
        ((pair.lora_b - right.pairs[n].lora_b).square().sum(), pair.lora_b.square().sum())
        for n, pair in left.pairs.items()
    ]
    return float(sum(a for a, _ in parts) / sum(b for _, b in parts))


def test_a_run_is_predicted_from_those_like_it(nowcast: NowcastOfRuns) -> None:
    run = run_to((0.6, 0.1, 0.3))
    found = nowcast.predict([run[0], run[2]])
    assert _apart(run[-1], found) < 0.1 * _apart(run[-1], run[2])
    assert (nowcast.spacing, nowcast.horizon) == (6, 18)
    assert nowcast.left_out < 0.1


def test_runs_turned_together_are_predicted_in_that_gauge(nowcast: NowcastOfRuns) -> None:
    gauge = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)).double())

    def turned(one: Adapter) -> Adapter:
        pairs = {
            n: p.with_matrices(gauge[0].mT @ p.lora_a, p.lora_b @ gauge[0], scaling=p.scaling)
            for n, p in one.pairs.items()
        }
        return replace(one, pairs=pairs)

    other = fit_nowcast_runs([[turned(a) for a in run] for run in known()], spacing=3, at=2, ends=1)
    run = run_to((0.2, 0.5, 0.3))
    wanted = turned(nowcast.predict([run[0], run[2]]))
    found = other.predict([turned(run[0]), turned(run[2])])
    assert _apart(wanted, found) < 1e-8


def test_another_start_is_refused(nowcast: NowcastOfRuns) -> None:
    run = run_to((1.0, 0.0, 0.0))
    with pytest.raises(AdapterMismatchError, match="did not start from the factors"):
        nowcast.predict([small_adapter(7), run[2]])
    with pytest.raises(AdapterMismatchError, match="needs the start and one checkpoint, and got 3"):
        nowcast.predict(run[:3])


def test_too_few_or_too_short_runs_are_refused() -> None:
    with pytest.raises(ConfigError, match="There are 2 runs of 9 checkpoints"):
        fit_nowcast_runs(known(2), spacing=3, at=2)
    with pytest.raises(ConfigError, match="needs three runs and 10 checkpoints of each"):
        fit_nowcast_runs(known(3), spacing=3, at=6)


def test_callback_jumps_to_where_like_runs_went(nowcast: NowcastOfRuns) -> None:
    from lora_gen.evaluation.nowcast_callback import NowcastCallback

    run = run_to((0.6, 0.1, 0.3))
    model = _model(run[0])
    callback = NowcastCallback(nowcast)
    state: Any = type("State", (), {"global_step": 0})()
    callback.on_train_begin(None, state, None, model=model)
    _set(model, run[2])
    state.global_step = nowcast.spacing
    callback.on_step_end(None, state, None, model=model)
    wanted = nowcast.predict([run[0], run[2]])
    name = next(iter(wanted.pairs))
    found = dict(model.named_parameters())[f"base_model.model.{name}.lora_B.default.weight"]
    torch.testing.assert_close(found.detach(), wanted.pairs[name].lora_b)


class _Named(nn.Module):
    """Parameters by any name, as PEFT names them."""

    def __init__(self, values: dict[str, nn.Parameter]) -> None:
        super().__init__()
        self.values = values

    def named_parameters(self, *args: Any, **kwargs: Any) -> Any:
        return iter(self.values.items())


def _model(adapter: Adapter) -> _Named:
    return _Named(
        {
            f"base_model.model.{name}.{side}.default.weight": nn.Parameter(value.clone())
            for name, pair in adapter.pairs.items()
            for side, value in (("lora_A", pair.lora_a), ("lora_B", pair.lora_b))
        }
    )


def _set(model: _Named, adapter: Adapter) -> None:
    with torch.no_grad():
        for name, value in _model(adapter).values.items():
            model.values[name].copy_(value)
