"""A statistic comes with the ends of its interval."""

from __future__ import annotations

import numpy as np
import pytest

from mixture.errors import MonitorError
from mixture.monitor.intervals import interval


def test_the_ends_are_those_of_the_normal_interval_where_samples_are_many() -> None:
    samples = np.random.default_rng(0).normal(2, 1, 400)
    value, low, high = interval(samples)
    assert value == pytest.approx(samples.mean())
    assert low == pytest.approx(value - 1.96 * samples.std(ddof=1) / 20, abs=0.01)
    assert high == pytest.approx(value + 1.96 * samples.std(ddof=1) / 20, abs=0.01)


def test_ninety_five_of_a_hundred_intervals_hold_the_truth() -> None:
    rng = np.random.default_rng(1)
    found = [interval(rng.exponential(1, 60), seed=trial) for trial in range(200)]
    assert 0.89 <= np.mean([low <= 1 <= high for _, low, high in found]) <= 0.99


def test_an_interval_of_another_level_and_statistic() -> None:
    samples = np.arange(101.0)
    value, low, high = interval(samples, statistic=np.median)
    assert value == 50
    assert low < 45
    assert high > 55
    _, narrow_low, narrow_high = interval(samples, statistic=np.median, level=0.5)
    assert low < narrow_low < narrow_high < high


def test_scores_of_right_and_wrong_stay_between_nothing_and_all() -> None:
    _, low, high = interval([1, 1, 0, 1, 0, 1, 1, 1])
    assert 0 <= low < 0.75 < high <= 1


@pytest.mark.parametrize("samples", [[0.3], [1, 1, 1, 1], [0.0]])
def test_what_has_no_spread_is_its_own_interval(samples: list[float]) -> None:
    assert interval(samples) == (samples[0],) * 3


def test_where_bca_is_not_defined_percentiles_stand_in() -> None:
    def least(values: np.ndarray, axis: int = -1) -> np.ndarray:  # left-out samples never change it: no acceleration
        return np.min(values, axis=axis)

    value, low, high = interval([0, 0, 1, 2], statistic=least)
    assert (value, low) == (0, 0)
    assert np.isfinite(high)


def test_the_same_seed_gives_the_same_ends_and_another_seed_others() -> None:
    samples = np.random.default_rng(2).normal(size=30)
    assert interval(samples) == interval(samples)
    assert interval(samples) != interval(samples, seed=1)


def test_no_samples_and_samples_that_are_not_finite_are_refused() -> None:
    with pytest.raises(MonitorError, match="at least one sample"):
        interval([])
    with pytest.raises(MonitorError, match="sample 1 of 3 is nan"):
        interval([1, np.nan, 2])
