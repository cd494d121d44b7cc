"""A mean is half a measurement: the interval of a statistic over samples.

    interval([1, 1, 0, 1, 0, 1, 1, 1])   →   value 0.75, low 0.25, high 0.875

Samples are drawn again with replacement (bootstrap), and the ends are corrected for bias and skew (BCa, Efron 1987).
A score of five samples that are all right has no spread to draw from: its interval is the value itself, and `n` in the
long table says how little that is. The price: 9,999 draws, some milliseconds for 400 samples.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from mixture.errors import MonitorError

#: Draws for each interval; scipy's own default.
DRAWS = 9_999


def interval(
    values: npt.ArrayLike, *, seed: int = 0, level: float = 0.95, statistic: Callable[..., Any] = np.mean
) -> tuple[float, float, float]:
    """Return a statistic of samples and the ends of its interval: value, low, high; low ≤ value ≤ high.

    Args:
        values: samples, any real dtype, shape (n,), n at least 1.
        seed: of the draws.
        level: what share of such intervals holds the truth.
        statistic: takes samples, and `axis` for many draws at once.

    Raises:
        MonitorError: there are no samples, or some are not finite.
    """
    samples = np.asarray(values, np.float64).reshape(-1)
    if not samples.size:
        raise MonitorError("an interval needs at least one sample; none was given")
    strange = np.flatnonzero(~np.isfinite(samples))
    if strange.size:
        raise MonitorError(
            f"sample {strange[0]} of {samples.size} is {samples[strange[0]]}; an interval needs finite samples: leave "
            "out, and count, those that could not be measured"
        )
    value = float(statistic(samples))
    if samples.size == 1 or np.ptp(samples) == 0:
        return value, value, value
    low, high = _ends(samples, seed, level, statistic)
    # Of a skewed statistic BCa may leave the value itself out.
    return value, min(low, value), max(high, value)


def _ends(
    samples: npt.NDArray[np.float64], seed: int, level: float, statistic: Callable[..., Any]
) -> tuple[float, float]:
    """Return the ends by BCa, or by percentiles where the acceleration is not defined."""
    for method in ("BCa", "percentile"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scipy warns of degenerate samples: they come back as NaN
            found = stats.bootstrap(
                (samples,),
                statistic,
                n_resamples=DRAWS,
                batch=max(1, 4_000_000 // samples.size),
                confidence_level=level,
                method=method,
                rng=np.random.default_rng(seed),
            ).confidence_interval
        if np.isfinite(found.low) and np.isfinite(found.high):
            return float(found.low), float(found.high)
    value = float(statistic(samples))
    return value, value
