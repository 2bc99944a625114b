from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from training.metrics import Meter, MetricsLog, mean_of, read_metrics
from training.random_state import (
    random_state,
    random_state_kept,
    restore_random_state,
    seed_everything,
)


def _draws() -> list[float]:
    return [random.random(), random.gauss(), float(np.random.rand()), float(torch.randn(()))]


def test_random_state_survives_json_exactly() -> None:
    seed_everything(3, "test")
    _draws()  # leaves a cached second normal number behind
    state = json.loads(json.dumps(random_state()))
    drawn = _draws()
    seed_everything(4, "test")
    restore_random_state(state)
    assert _draws() == drawn


def test_random_state_kept_hides_what_is_drawn_inside() -> None:
    seed_everything(3, "test")
    drawn = _draws()
    seed_everything(3, "test")
    with random_state_kept():
        _draws()
    assert _draws() == drawn


def test_meter_state_survives_json_exactly() -> None:
    meter, again = Meter(), Meter()
    meter.add({"a": torch.tensor(1 / 3), "b": 1 / 3})
    again.restore(json.loads(json.dumps(meter.state())))
    for one in (meter, again):
        one.add({"a": torch.tensor(0.1)})
    assert mean_of([again.state()]) == mean_of([meter.state()])


def test_mean_of_weighs_every_value_equally() -> None:
    states = [{"loss": [1.0, 2.0], "rare": [5.0]}, {"loss": [6.0]}, {"none": []}]
    assert mean_of(states) == {"loss": 3.0, "rare": 5.0}


@pytest.mark.parametrize(("step", "kept"), [(0, []), (2, [1, 2]), (9, [1, 2, 3])])
def test_metrics_log_drops_lines_after_the_resumed_step(
    tmp_path: Path, step: int, kept: list[int]
) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(f'{{"step": {n}}}\n' for n in (1, 2, 3)) + '{"ste')
    MetricsLog(path, step=step).close()
    assert [line["step"] for line in read_metrics(path)] == kept
