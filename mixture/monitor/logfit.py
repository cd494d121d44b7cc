"""PPL(N) = A·log N + B: a perplexity that falls by A·log 2 with every doubling of the tokens trained on.

    tokens      1M    2M    4M    8M
    perplexity  20    18    16    14        A = -2 / log 2 = -2.89, so A·log 2 = -2 a doubling; B = 59.9

Least squares on log N, with intervals by Student's t: three checkpoints are the fewest that say how far off the line
points lie. Points that follow each other are no independent samples, so where the curve bends the intervals are too
narrow; `worst` says by how much the line misses the farthest point.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mixture.errors import MonitorError

Floats = npt.NDArray[np.float64]

#: Fewest points that a line and its spread are fitted to.
FEWEST = 3


@dataclass(frozen=True)
class LogFit:
    """A line in log N.

    Attributes:
        a: slope, in the value's unit by a factor of e.
        b: value at one token.
        a_interval: ends of the interval of a.
        b_interval: of b.
        r2: share of the variance that the line takes, in [0, 1]; 1 where the values do not vary.
        worst: the largest distance of a point from the line.
        n: points.
        level: of the intervals.
    """

    a: float
    b: float
    a_interval: tuple[float, float]
    b_interval: tuple[float, float]
    r2: float
    worst: float
    n: int
    level: float
    _tokens: tuple[float, ...]
    _values: tuple[float, ...]

    def at(self, tokens: npt.ArrayLike) -> Floats:
        """Return the line at some numbers of tokens, shape as given."""
        found: Floats = self.a * np.log(np.asarray(tokens, np.float64)) + self.b
        return found

    def expected(self, tokens: npt.ArrayLike) -> tuple[Floats, Floats, Floats]:
        """Return the line and the ends of the interval in which a new checkpoint's value should lie, shape (m,) each.

        Args:
            tokens: above 0, shape (m,); beyond the last checkpoint, too.
        """
        asked = np.atleast_1d(np.asarray(tokens, np.float64))
        made = _line(np.array(self._tokens), np.array(self._values))
        told = made.get_prediction(_design(asked)).summary_frame(alpha=1 - self.level)
        value, low, high = (told[name].to_numpy() for name in ("mean", "obs_ci_lower", "obs_ci_upper"))
        return value, low, high

    def doubling(self) -> tuple[float, float, float]:
        """Return by how much the value moves with a doubling of the tokens, and the ends of its interval."""
        low, high = self.a_interval
        return self.a * np.log(2), low * np.log(2), high * np.log(2)


def log_fit(tokens: npt.ArrayLike, values: npt.ArrayLike, *, level: float = 0.95) -> LogFit:
    """Fit A·log N + B to what checkpoints measured.

    Args:
        tokens: trained on, above 0, shape (n,); a checkpoint before training has no logarithm: leave it out.
        values: a perplexity or a loss of each, shape (n,).
        level: what share of such intervals holds the truth.

    Raises:
        MonitorError: fewer than three different numbers of tokens, or values that are not finite.
    """
    given, found = (np.asarray(part, np.float64).reshape(-1) for part in (tokens, values))
    if given.shape != found.shape:
        raise MonitorError(f"a fit over tokens: {given.size} numbers of tokens and {found.size} values; give one each")
    if not np.isfinite(found).all() or not np.isfinite(given).all() or (given <= 0).any():
        raise MonitorError("a fit over tokens: tokens must be above 0 and values finite; leave the others out")
    if len(np.unique(given)) < FEWEST:
        raise MonitorError(
            f"a fit over tokens: {len(np.unique(given))} different numbers of tokens, at least {FEWEST} are needed for "
            "an interval; measure more checkpoints"
        )
    made = _line(given, found)
    (b, a), ((b_low, b_high), (a_low, a_high)) = made.params, made.conf_int(alpha=1 - level)
    varies = bool(np.ptp(found))
    return LogFit(
        a=float(a),
        b=float(b),
        a_interval=(float(a_low), float(a_high)),
        b_interval=(float(b_low), float(b_high)),
        r2=float(made.rsquared) if varies else 1.0,
        worst=float(np.abs(made.resid).max()),
        n=len(given),
        level=level,
        _tokens=tuple(given.tolist()),
        _values=tuple(found.tolist()),
    )


def _design(tokens: Floats) -> Floats:
    out: Floats = np.column_stack([np.ones(len(tokens)), np.log(tokens)])
    return out


def _line(tokens: Floats, values: Floats) -> Any:
    # Takes a second or two to import.
    from statsmodels.regression.linear_model import OLS

    return OLS(values, _design(tokens)).fit()
