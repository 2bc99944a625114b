"""Laws and known answers of the intervals."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_gen.errors import ConfigError
from lora_gen.evaluation.statistics import (
    Interval,
    mean_interval,
    paired_difference_interval,
    proportion_interval,
    share_of_gain,
)

scores = st.lists(st.floats(0, 1), min_size=2, max_size=12)


@settings(max_examples=15, deadline=None)
@given(values=scores, shift=st.floats(-2, 2))
def test_mean_interval_moves_with_its_values(values, shift):
    plain = mean_interval(values)
    moved = mean_interval([value + shift for value in values])
    assert plain.low - 1e-12 <= plain.value <= plain.high + 1e-12
    assert moved.value == pytest.approx(plain.value + shift, abs=1e-9)
    assert moved.low == pytest.approx(plain.low + shift, abs=1e-9)
    assert moved.high == pytest.approx(plain.high + shift, abs=1e-9)


def test_mean_interval_matches_the_normal_theory_on_many_tasks():
    values = np.random.default_rng(1).normal(0.5, 0.1, size=400)
    half = 1.96 * values.std() / math.sqrt(len(values))
    found = mean_interval(values)
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.05 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.05 * half)


def test_mean_interval_covers_the_truth_as_often_as_it_says():
    random = np.random.default_rng(2)
    hits = 0
    for _ in range(100):
        found = mean_interval(random.random(40))
        hits += found.low <= 0.5 <= found.high
    assert 88 <= hits <= 99


def test_mean_interval_repeats_with_the_same_seed():
    values = [0.1, 0.9, 0.4, 0.6]
    assert mean_interval(values, seed=3) == mean_interval(values, seed=3)


def test_mean_interval_ignores_copies_of_answers_within_a_task():
    tasks = [0.0, 1.0, 0.5, 0.25, 0.75, 1.0]
    answers = [score for score in tasks for _ in range(50)]
    names = [number for number in range(len(tasks)) for _ in range(50)]
    clustered = mean_interval(answers, clusters=names)
    naive = mean_interval(answers)
    assert clustered.low == pytest.approx(mean_interval(tasks).low)
    assert naive.high - naive.low < 0.3 * (clustered.high - clustered.low)


def test_mean_interval_weights_tasks_by_their_answers():
    found = mean_interval([1.0, 1.0, 1.0, 0.0], clusters=["a", "a", "a", "b"])
    assert found.value == 0.75
    assert (found.low, found.high) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        (0, 100, 0.0, 0.0370),
        (50, 100, 0.4038, 0.5962),
        (81, 263, 0.2553, 0.3662),
        (5, 5, 0.5655, 1.0),
    ],
)
def test_proportion_interval_gives_published_wilson_limits(successes, trials, low, high):
    found = proportion_interval(successes, trials)
    assert found.value == successes / trials
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)


@given(trials=st.integers(1, 10_000), data=st.data())
def test_proportion_interval_holds_its_share_and_mirrors(trials, data):
    successes = data.draw(st.integers(0, trials))
    found = proportion_interval(successes, trials)
    mirrored = proportion_interval(trials - successes, trials)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.low == pytest.approx(1 - mirrored.high, abs=1e-12)


def test_paired_difference_interval_is_narrower_than_two_apart():
    base = np.random.default_rng(4).random(50)
    better = base + 0.05
    paired = paired_difference_interval(better, base)
    alone = mean_interval(base)
    assert (paired.low, paired.high) == pytest.approx((0.05, 0.05))
    assert alone.high - alone.low > 0.1


@settings(max_examples=15, deadline=None)
@given(share=st.floats(-0.5, 1.5), seed=st.integers(0, 1000))
def test_share_of_gain_is_exact_for_a_mix_of_base_and_oracle(share, seed):
    random = np.random.default_rng(seed)
    base = random.random(20) * 0.1
    oracle = base + 0.5 + random.random(20) * 0.4
    found = share_of_gain((1 - share) * base + share * oracle, base, oracle)
    assert (found.value, found.low, found.high) == pytest.approx((share,) * 3, abs=1e-9)


def test_share_of_gain_widens_with_disagreeing_tasks():
    base, oracle = np.zeros(60), np.full(60, 0.9)
    method = np.tile([0.0, 0.9], 30)
    found = share_of_gain(method, base, oracle)
    assert found.value == pytest.approx(0.5)
    assert (found.low, found.high) == pytest.approx((0.38, 0.62), abs=0.02)


def test_share_of_gain_is_refused_when_the_oracle_gains_nothing():
    flat = [0.5, 0.4, 0.6, 0.5]
    with pytest.raises(
        ConfigError, match=r"`oracle` gains 0\.000 over `base` on 4 tasks.*more tasks"
    ):
        share_of_gain([0.6, 0.5, 0.6, 0.5], flat, flat)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: mean_interval([]), r"`values` has shape \(0,\); it must be a list"),
        (lambda: mean_interval([0.5]), "`values` come from 1 task; an interval needs at least 2"),
        (lambda: mean_interval([0.5, math.nan]), "`values` has 1 of 2 numbers that are not finite"),
        (lambda: mean_interval([0.1, 0.2], clusters="a"), "`clusters` has 1 names for 2 values"),
        (
            lambda: mean_interval([0.1, 0.2], confidence=95),
            "`confidence` is 95; it must be between",
        ),
        (lambda: proportion_interval(3, 2), "`successes` is 3 of 2 trials"),
        (lambda: proportion_interval(0, 0), "`successes` is 0 of 0 trials"),
        (
            lambda: paired_difference_interval([1, 2], [1]),
            "`first` has 2, `second` has 1; they must",
        ),
    ],
)
def test_interval_is_refused_for_bad_input(call, sentence):
    with pytest.raises(ConfigError, match=sentence):
        call()


def test_interval_reads_as_one_line_and_as_json():
    interval = Interval(value=0.5, low=0.25, high=0.75)
    assert str(interval) == "0.500 [0.250, 0.750]"
    assert interval.to_dict() == {"value": 0.5, "low": 0.25, "high": 0.75, "confidence": 0.95}
