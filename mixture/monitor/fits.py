"""A saturating power law through a few checkpoints: y = a - b·N^(-c), a the value that more tokens lead to.

    tokens  20 G   50 G   100 G  150 G           a = 0.85, where the curve ends
    score   0.60   0.72   0.78   0.80     →      200 G: 0.81 (0.78 … 0.84)

Rising scores and falling perplexities are both such curves (b above or below 0). All points weigh the same. The best
fit is scipy's `curve_fit`, bounded, from several starts. Its interval is a parametric bootstrap: values are drawn again
by their errors and by what of the residuals the errors do not explain, and each draw is fitted. Since for a given c the
law is linear in a and b, a draw's fit is the best of 60 exponents (variable projection, Golub and Pereyra 1973): a
thousand of them take milliseconds.
"""

from __future__ import annotations

import contextlib
import warnings
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mixture.errors import MonitorError
from mixture.monitor.curves import Curve, Floats

#: Exponents that are thought possible; with the least of them the law is all but a line over log N.
EXPONENTS: Floats = np.geomspace(0.01, 4.0, 60)
#: Fewest points for three numbers and a residual.
FEWEST = 4
_STARTS = (0.1, 0.3, 0.6, 1.0, 2.0)


@dataclass(frozen=True)
class PowerLaw:
    """y = a - b·N^(-c), with the uncertainty of its numbers.

    Attributes:
        a: value that the curve leads to.
        b: what is left to go at one token; below 0 for a curve that falls.
        c: exponent, in `EXPONENTS`' range.
        a_interval: 95 % ends of a.
        c_interval: of c.
        noise: standard deviation of a checkpoint around the curve.
        n: points.
        draws: numbers (a, b', c) of fits to drawn values, N counted in the last checkpoint's, shape (draws, 3).
    """

    a: float
    b: float
    c: float
    a_interval: tuple[float, float]
    c_interval: tuple[float, float]
    noise: float
    n: int
    last: float
    draws: Floats = field(repr=False, compare=False)

    def at(self, tokens: npt.ArrayLike) -> Floats:
        """Return the curve at some numbers of tokens, shape as given."""
        found: Floats = self.a - self.b * np.asarray(tokens, np.float64) ** -self.c
        return found

    def expected(
        self, tokens: npt.ArrayLike, *, level: float = 0.95, checkpoint: bool = False, seed: int = 0
    ) -> tuple[Floats, Floats, Floats]:
        """Return the curve and the ends of its interval, shape (m,) each.

        Args:
            tokens: above 0, shape (m,); beyond the last checkpoint, too.
            level: of the interval.
            checkpoint: whether the interval is of a new checkpoint's value, with its noise, and not of the curve.
            seed: of that noise.
        """
        x = np.atleast_1d(np.asarray(tokens, np.float64)) / self.last
        a, b, c = self.draws.T[:, :, None]
        drawn = a - b * x**-c
        if checkpoint:
            drawn = drawn + np.random.default_rng(seed).normal(0, self.noise, drawn.shape)
        low, high = ends(drawn, level)
        value = self.at(x * self.last)
        return value, np.minimum(low, value), np.maximum(high, value)


def ends(drawn: Floats, level: float = 0.95) -> tuple[Floats, Floats]:
    """Return the ends of the middle share of draws along the first axis."""
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def power_law(curve: Curve, *, draws: int = 1000, seed: int = 0) -> PowerLaw:
    """Fit y = a - b·N^(-c) to a curve.

    Args:
        curve: at least four checkpoints.
        draws: fits behind the intervals.
        seed: of the draws.

    Raises:
        MonitorError: too few checkpoints, or scipy finds no fit.
    """
    if len(curve) < FEWEST:
        raise MonitorError(
            f"{curve.name} of {curve.model}: {len(curve)} checkpoints with tokens above 0; a power law needs {FEWEST}"
        )
    x, y = np.array(curve.tokens) / curve.tokens[-1], np.array(curve.values)
    a, b, c = _best(curve, x, y)
    fitted = a - b * x**-c
    drawn = drawn_values(fitted, y - fitted, np.array(curve.errors), parameters=3, draws=draws, seed=seed)
    numbers = fit_draws(x, drawn)
    (a_low, _, c_low), (a_high, _, c_high) = ends(numbers)
    return PowerLaw(
        a=a,
        b=b * curve.tokens[-1] ** c,
        c=c,
        a_interval=(min(float(a_low), a), max(float(a_high), a)),
        c_interval=(min(float(c_low), c), max(float(c_high), c)),
        noise=spread(y - fitted, np.array(curve.errors), parameters=3),
        n=len(curve),
        last=curve.tokens[-1],
        draws=numbers,
    )


def _best(curve: Curve, x: Floats, y: Floats) -> tuple[float, float, float]:
    """Return a, b and c of the least squares, by scipy from several exponents."""
    from scipy import optimize

    found = []
    # Numbers about 1, so that one tolerance suits perplexities and scores.
    middle, scale = float(y.mean()), float(np.ptp(y)) or 1.0
    z = (y - middle) / scale
    bounds = ([-np.inf, -np.inf, EXPONENTS[0]], [np.inf, np.inf, EXPONENTS[-1]])
    for c in _STARTS:
        (a, b), *_ = np.linalg.lstsq(np.column_stack([np.ones_like(x), -(x**-c)]), z, rcond=None)
        # It warns where points are too few or too straight for a covariance, which nobody reads here.
        with warnings.catch_warnings(), contextlib.suppress(RuntimeError):
            warnings.simplefilter("ignore", optimize.OptimizeWarning)
            numbers, _ = optimize.curve_fit(_law, x, z, p0=[a, b, c], bounds=bounds)
            found.append((float(((_law(x, *numbers) - z) ** 2).sum()), *map(float, numbers)))
    if not found:
        raise MonitorError(f"{curve.name} of {curve.model}: no power law fits; look at the curve before its fit")
    _, a, b, c = min(found)
    return a * scale + middle, b * scale, c


def _law(x: Floats, a: float, b: float, c: float) -> Floats:
    found: Floats = a - b * x**-c
    return found


def fit_draws(x: Floats, drawn: Floats) -> Floats:
    """Fit a power law to each of many draws of the same checkpoints' values, by the best of `EXPONENTS`.

    Args:
        x: tokens, in units near the largest, above 0, shape (n,).
        drawn: values, shape (draws, n).

    Returns:
        a, b and c of each, shape (draws, 3).
    """
    designs = np.stack([np.ones((len(EXPONENTS), len(x))), -(x ** -EXPONENTS[:, None])], axis=-1)
    solvers = np.linalg.pinv(designs)
    numbers = np.einsum("cpn,dn->dcp", solvers, drawn)
    left = drawn[:, None] - np.einsum("cnp,dcp->dcn", designs, numbers)
    best = (left**2).sum(axis=-1).argmin(axis=-1)
    return np.column_stack([numbers[np.arange(len(drawn)), best], EXPONENTS[best]])


def spread(residuals: Floats, errors: Floats, *, parameters: int) -> float:
    """Return a checkpoint's standard deviation around a fit: by its samples, or by the residuals where those are more.

    Args:
        residuals: of the fit, shape (n,).
        errors: standard errors by samples, shape (n,).
        parameters: numbers that were fitted.
    """
    free = len(residuals) - parameters
    sampled = float(np.mean(errors**2))
    left = float((residuals**2).sum()) / free if free > 0 else 0.0
    return float(np.sqrt(max(sampled, left)))


def drawn_values(
    values: Floats,
    residuals: Floats,
    errors: Floats,
    *,
    parameters: int,
    draws: int,
    seed: int,
    sampled: Floats | None = None,
) -> Floats:
    """Draw values of checkpoints: noise of samples, and what the residuals show beyond it (training's own wobble).

    That rest is known by few residuals, so its size is drawn, too: its draws have Student's tails.

    Args:
        values: around which to draw, shape (n,).
        residuals: of a fit, shape (n,).
        errors: standard errors by samples, shape (n,).
        parameters: numbers that the fit has.
        draws: how many.
        seed: of the draws.
        sampled: values that were drawn by their samples already, shape (draws, n), which lack the rest alone.

    Returns:
        shape (draws, n).
    """
    rng = np.random.default_rng(seed)
    free = len(values) - parameters
    drawn = values + rng.normal(size=(draws, len(values))) * errors if sampled is None else sampled
    if free > 0:
        beyond = max(0.0, float((residuals**2).sum()) / free - float(np.mean(errors**2)))
        size = np.sqrt(beyond / (rng.chisquare(free, size=(draws, 1)) / free))
        drawn = drawn + rng.normal(size=drawn.shape) * size
    return drawn


@dataclass(frozen=True)
class Foretold:
    """How well the curve before it foretold the last checkpoint.

    Attributes:
        tokens: of the last checkpoint.
        expected: what the fit without it says.
        low: 95 % end of what a checkpoint there should have.
        high: the other end.
        measured: what it has.
    """

    tokens: float
    expected: float
    low: float
    high: float
    measured: float

    @property
    def error(self) -> float:
        """Expected minus measured, in the metric's unit."""
        return self.expected - self.measured

    @property
    def inside(self) -> bool:
        """Whether what was measured lies in the interval."""
        return self.low <= self.measured <= self.high


def held_out(curve: Curve, *, draws: int = 1000, seed: int = 0) -> Foretold:
    """Fit all checkpoints but the last, and say what they foretell of it.

    Raises:
        MonitorError: fewer than five checkpoints.
    """
    before = power_law(curve.until(len(curve) - 1), draws=draws, seed=seed)
    (value,), (low,), (high,) = before.expected(curve.tokens[-1], checkpoint=True, seed=seed)
    return Foretold(curve.tokens[-1], float(value), float(low), float(high), curve.values[-1])
