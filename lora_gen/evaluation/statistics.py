"""Intervals for what evaluation measures; tasks, not single answers, are the independent draws.

Answers of one task rise and fall together, so a bootstrap over answers would claim far too narrow
an interval. Every
bootstrap here draws whole clusters (tasks, or families) with replacement (Field & Welsh, 2007, the
cluster bootstrap)
and reads percentiles. It needs many clusters: below about 20 the interval is too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from lora_gen.errors import ConfigError

_RESAMPLES = 10_000
_CHUNK_VALUES = 2_000_000  # drawn indices held at once: 16 MB


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate and its confidence interval."""

    value: float
    low: float
    high: float
    confidence: float = 0.95

    def to_dict(self) -> dict[str, float]:
        """The interval as JSON data."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def mean_interval(
    values: Sequence[float],
    *,
    clusters: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """The mean of `values` with a bootstrap interval.

    Args:
        values: One number a task, or one an answer when `clusters` says which task it belongs to.
        clusters: The cluster of every value; without it each value is its own.
        confidence: Probability the interval is built for.
        seed: Draws the resamples; the same seed gives the same interval.

    Raises:
        ConfigError: Fewer than two clusters, or a value is not finite.
    """
    values_N = _finite("values", values)
    totals_C2 = _totals(np.stack([values_N, np.ones_like(values_N)], axis=1), clusters)
    draws_S2 = _resampled_sums(totals_C2, seed)
    return _interval(float(values_N.mean()), draws_S2[:, 0] / draws_S2[:, 1], confidence)


def proportion_interval(successes: int, trials: int, *, confidence: float = 0.95) -> Interval:
    """The share of successes in independent trials, with Wilson's score interval (Wilson, 1927).

    Unlike the bootstrap it does not collapse at 0 or 1: no success in 100 trials is [0, 0.037].

    Raises:
        ConfigError: Not 0 <= successes <= trials, or no trials.
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ConfigError(
            f"`successes` is {successes} of {trials} trials; it must be from 0 to a positive "
            "number of trials."
        )
    z = NormalDist().inv_cdf(0.5 + _valid(confidence) / 2)
    share = successes / trials
    shrink = 1 + z * z / trials
    center = (share + z * z / (2 * trials)) / shrink
    half = z / shrink * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    # At 0 and 1 the exact bound is the share itself; rounding must not push it past.
    low = 0.0 if successes == 0 else center - half
    high = 1.0 if successes == trials else center + half
    return Interval(value=share, low=low, high=high, confidence=confidence)


def paired_difference_interval(
    first: Sequence[float],
    second: Sequence[float],
    *,
    clusters: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """The mean of `first - second`, item by item on the same tasks, with a bootstrap interval.

    Raises:
        ConfigError: The two differ in length, or `mean_interval` refuses their difference.
    """
    first_N, second_N = _finite("first", first), _finite("second", second)
    _require_same_length(first=first_N, second=second_N)
    difference = (first_N - second_N).tolist()
    return mean_interval(difference, clusters=clusters, confidence=confidence, seed=seed)


def share_of_gain(
    method: Sequence[float],
    base: Sequence[float],
    oracle: Sequence[float],
    *,
    clusters: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """The method's share of what the oracle gains over the base: 0 is the base, 1 the oracle.

    The ratio of mean gains, `(mean(method) - mean(base)) / (mean(oracle) - mean(base))`, not the
    mean of ratios: a task on which the oracle gains nothing would make the latter meaningless. All
    three are bootstrapped together.

    Args:
        method: Score of the method on each task.
        base: Score of the base on the same tasks.
        oracle: Score of the oracle on the same tasks.
        clusters: As in `mean_interval`.
        confidence: Probability the interval is built for.
        seed: Draws the resamples.

    Raises:
        ConfigError: Lengths differ, or the oracle's gain cannot be told from zero, so a share of it
        says nothing.
    """
    method_N, base_N, oracle_N = (
        _finite("method", method),
        _finite("base", base),
        _finite("oracle", oracle),
    )
    _require_same_length(method=method_N, base=base_N, oracle=oracle_N)
    gains_N2 = np.stack([method_N - base_N, oracle_N - base_N], axis=1)
    draws_S2 = _resampled_sums(_totals(gains_N2, clusters), seed)
    gained, possible = gains_N2.sum(axis=0)
    if possible <= 0 or np.mean(draws_S2[:, 1] <= 0) > (1 - _valid(confidence)) / 2:
        raise ConfigError(
            f"`oracle` gains {possible / len(gains_N2):.3f} over `base` on {len(gains_N2)} tasks, "
            "which cannot be told "
            "from zero, so a share of it says nothing. Measure on more tasks, or on tasks the "
            "base cannot do."
        )
    positive_S2 = draws_S2[draws_S2[:, 1] > 0]
    return _interval(float(gained / possible), positive_S2[:, 0] / positive_S2[:, 1], confidence)


def _interval(value: float, draws_S: NDArray[np.float64], confidence: float) -> Interval:
    tail = (1 - _valid(confidence)) / 2
    low, high = np.quantile(draws_S, [tail, 1 - tail])
    return Interval(value=value, low=float(low), high=float(high), confidence=confidence)


def _totals(
    values_NV: NDArray[np.float64], clusters: Sequence[Hashable] | None
) -> NDArray[np.float64]:
    """Sums of every column within each cluster, (C, V)."""
    if clusters is None:
        totals_CV = values_NV
    else:
        if len(clusters) != len(values_NV):
            raise ConfigError(
                f"`clusters` has {len(clusters)} names for {len(values_NV)} values. Give one name "
                "a value."
            )
        numbers = {name: number for number, name in enumerate(dict.fromkeys(clusters))}
        totals_CV = np.zeros((len(numbers), values_NV.shape[1]))
        np.add.at(totals_CV, [numbers[name] for name in clusters], values_NV)
    if len(totals_CV) < 2:
        raise ConfigError(
            f"`values` come from {len(totals_CV)} task; an interval needs at least 2. Measure "
            "more tasks."
        )
    return totals_CV


def _resampled_sums(totals_CV: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Sums over C clusters drawn with replacement, (S, V), in bounded memory."""
    count = len(totals_CV)
    random = np.random.default_rng(seed)
    sums_SV = np.empty((_RESAMPLES, totals_CV.shape[1]))
    step = max(1, _CHUNK_VALUES // count)
    for start in range(0, _RESAMPLES, step):
        stop = min(start + step, _RESAMPLES)
        drawn_SC = random.integers(count, size=(stop - start, count))
        for column in range(totals_CV.shape[1]):
            sums_SV[start:stop, column] = totals_CV[drawn_SC, column].sum(axis=1)
    return sums_SV


def _finite(name: str, values: Sequence[float]) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not array.size:
        raise ConfigError(
            f"`{name}` has shape {array.shape}; it must be a list of one or more numbers."
        )
    bad = int((~np.isfinite(array)).sum())
    if bad:
        raise ConfigError(
            f"`{name}` has {bad} of {array.size} numbers that are not finite. Measure them again."
        )
    return array


def _require_same_length(**named: NDArray[np.float64]) -> None:
    lengths = {name: len(values) for name, values in named.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"`{name}` has {length}" for name, length in lengths.items())
        raise ConfigError(f"{listed}; they must be scores of the same tasks in the same order.")


def _valid(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ConfigError(
            f"`confidence` is {confidence}; it must be between 0 and 1, such as 0.95."
        )
    return confidence
