"""A·log N + B is what was put in, and its intervals hold it as often as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("statsmodels")

from mixture.errors import MonitorError
from mixture.monitor.logfit import log_fit

TOKENS = np.array([1e6, 2e6, 4e6, 8e6])


def test_a_line_in_log_n_is_found_exactly() -> None:
    found = log_fit(TOKENS, [20.0, 18.0, 16.0, 14.0])
    assert found.a == pytest.approx(-2 / math.log(2))
    assert found.b == pytest.approx(20 + 2 * math.log2(1e6))
    assert found.doubling() == pytest.approx((-2, -2, -2))
    assert (found.r2, found.n) == (pytest.approx(1), 4)
    assert found.worst == pytest.approx(0, abs=1e-9)
    assert found.at([1e6, 16e6]) == pytest.approx([20, 12])
    assert [part.item() for part in found.expected(16e6)] == pytest.approx([12, 12, 12])


def test_intervals_are_those_of_students_t() -> None:
    # Four points, residuals 1, -1, -1, 1 over log2 N = 0 … 3: the slope is -2, s² = 4 / 2, Σ(x - mean)² = 5.
    tokens = [1, 2, 4, 8]
    found = log_fit(tokens, [21.0, 17.0, 15.0, 15.0])
    half = 4.302652729911275 * math.sqrt(2 / 5)
    assert found.doubling() == pytest.approx((-2, -2 - half, -2 + half))
    assert found.worst == pytest.approx(1)
    assert found.r2 == pytest.approx(1 - 4 / 24)
    # The next doubling, x = 4: s² (1 + 1/4 + 2.5²/5) = 5.
    value, low, high = found.expected([16])
    wide = 4.302652729911275 * math.sqrt(5)
    assert (value.item(), low.item(), high.item()) == pytest.approx((12, 12 - wide, 12 + wide))


@pytest.mark.slow
def test_the_interval_holds_the_truth_in_95_of_100_runs() -> None:
    rng = np.random.default_rng(0)
    tokens = np.geomspace(1e6, 1e9, 8)
    held = ahead = 0
    for _ in range(300):
        values = 40 - 1.5 * np.log(tokens) + rng.normal(0, 0.3, 8)
        found = log_fit(tokens, values)
        held += found.a_interval[0] <= -1.5 <= found.a_interval[1]
        _, low, high = found.expected(2e9)
        ahead += low.item() <= 40 - 1.5 * math.log(2e9) + rng.normal(0, 0.3) <= high.item()
    assert 0.91 <= held / 300 <= 0.99
    assert 0.91 <= ahead / 300 <= 0.99


def test_a_flat_curve_has_no_slope() -> None:
    found = log_fit(TOKENS, [5.0] * 4)
    assert found.a == pytest.approx(0, abs=1e-12)
    assert found.b == pytest.approx(5)
    assert found.r2 == 1


def test_what_cannot_be_fitted_is_refused_in_a_sentence() -> None:
    with pytest.raises(MonitorError, match="2 different numbers of tokens, at least 3"):
        log_fit([1e6, 2e6, 2e6], [3, 2, 2])
    with pytest.raises(MonitorError, match="tokens must be above 0"):
        log_fit([0, 1e6, 2e6], [3, 2, 1])
    with pytest.raises(MonitorError, match="values finite"):
        log_fit(TOKENS, [3, 2, 1, math.inf])
    with pytest.raises(MonitorError, match="4 numbers of tokens and 3 values"):
        log_fit(TOKENS, [3, 2, 1])
