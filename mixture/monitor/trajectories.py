"""Tasks side by side over checkpoints: two of a domain, one out of the others, one domain after another.

    checkpoint     1     2     3     4     5          ranks of a and b agree: rho 1
    task a         0.2   0.3   0.5   0.6   0.7        a is foretold by b at checkpoint 3, from 1, 2, 4 and 5
    task b         0.1   0.2   0.4   0.5   0.6        b's steps are a's: lag 0

Better is always upwards: a loss is turned around. Only checkpoints count that all have. A p-value is of a permutation
test, of all orders where there are few: four checkpoints never have one under .08. Many pairs are many chances.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import signal, stats

from mixture.errors import MonitorError
from mixture.monitor.curves import Curve, Floats

#: Fewest common checkpoints for a rank correlation, for a prediction, and for a lead or lag.
CORRELATED, PREDICTED, LED = 4, 5, 7
#: Permutations behind a p-value; all of them where there are fewer.
PERMUTATIONS = 1999


@dataclass(frozen=True)
class Together:
    """Two tasks of a domain: whether they get better at the same checkpoints.

    Attributes:
        domain: of both.
        first: name of one.
        second: of the other.
        rho: Spearman's, of their betterment: two tasks that improve together have 1, a loss and a score, too.
        p: of a permutation test, two-sided.
        n: common checkpoints.
    """

    domain: str
    first: str
    second: str
    rho: float
    p: float
    n: int


@dataclass(frozen=True)
class Neighbours:
    """A task out of the other tasks of its domain, each checkpoint by a fit to the others.

    Attributes:
        domain: of the tasks.
        task: name of the one.
        others: how many there are.
        error: root of the mean square of what is foretold minus what was measured, in the metric's unit.
        trend_error: the same by the task's own line over log N.
        mean_error: the same by the mean of its other checkpoints.
        n: checkpoints.
    """

    domain: str
    task: str
    others: int
    error: float
    trend_error: float
    mean_error: float
    n: int


@dataclass(frozen=True)
class Lead:
    """Two domains: whose steps come first.

    Attributes:
        leader: domain whose steps the other's resemble, `lag` checkpoints later.
        follower: the other.
        lag: checkpoints, 0 where they go together.
        correlation: of their steps at that lag.
        p: that some lag has as much, with one's steps shuffled.
        n: steps.
    """

    leader: str
    follower: str
    lag: int
    correlation: float
    p: float
    n: int


def common(found: Sequence[Curve]) -> tuple[Floats, Floats]:
    """Return the checkpoints that all curves have, and their values, better upwards.

    Returns:
        tokens, shape (n,), and values, shape (curves, n).
    """
    shared = sorted(set[float].intersection(*(set(curve.tokens) for curve in found)))
    values = [[dict(zip(curve.tokens, curve.values, strict=True))[place] for place in shared] for curve in found]
    signs = np.array([-1.0 if curve.falls else 1.0 for curve in found])
    return np.array(shared), signs[:, None] * np.array(values).reshape(len(found), len(shared))


def _enough(n: int, least: int, what: str) -> None:
    if n < least:
        raise MonitorError(f"{what}: {n} common checkpoints with tokens above 0, at least {least} are needed")


def together(domain: str, first: Curve, second: Curve, *, seed: int = 0) -> Together:
    """Correlate the ranks of two tasks' checkpoints.

    Raises:
        MonitorError: too few common checkpoints, or one is the same at all of them.
    """
    tokens, (a, b) = common([first, second])
    what = f"rank correlation of {first.name} and {second.name}"
    _enough(len(tokens), CORRELATED, what)
    if not np.ptp(a) or not np.ptp(b):
        raise MonitorError(f"{what}: one is the same at all common checkpoints, so there are no ranks")
    rho = float(stats.spearmanr(a, b).statistic)
    ranks = stats.rankdata(b)

    def correlation(shuffled: Floats, axis: int = -1) -> Floats:
        return stats.pearsonr(shuffled, np.broadcast_to(ranks, shuffled.shape), axis=axis).statistic  # type: ignore[no-any-return]

    p = _p_value(stats.rankdata(a), correlation, "two-sided", seed)
    return Together(domain, first.name, second.name, rho, p, len(tokens))


def _p_value(values: Floats, statistic: Callable[..., Floats], alternative: str, seed: int) -> float:
    """Return how often shuffled values have as much of a statistic, these among them."""
    found = stats.permutation_test(
        (values,),
        statistic,
        permutation_type="pairings",
        vectorized=True,
        alternative=alternative,
        n_resamples=PERMUTATIONS,
        rng=np.random.default_rng(seed),
    )
    return float(found.pvalue)


def out_of_others(domain: str, number: int, tasks: Sequence[Curve]) -> Neighbours:
    """Foretell a task at each checkpoint by the mean of the others, by a line fitted to all other checkpoints.

    The others are brought to mean 0 and spread 1 before their mean is taken: of a few checkpoints no more than one
    slope can be learned.

    Args:
        domain: name.
        number: of the task.
        tasks: of the domain, at least two.

    Raises:
        MonitorError: too few common checkpoints.
    """
    tokens, values = common(tasks)
    name = tasks[number].name
    _enough(len(tokens), PREDICTED, f"{name} out of the others of {domain}")
    target, rest = values[number], np.delete(values, number, axis=0)
    rest = rest[np.ptp(rest, axis=1) > 0]
    if not len(rest):
        raise MonitorError(f"{name} out of the others of {domain}: these are the same at all common checkpoints")
    mean = stats.zscore(rest, axis=1).mean(axis=0)
    error, trend, plain = (_left_out(column, target) for column in (mean, np.log(tokens), np.zeros(len(tokens))))
    return Neighbours(domain, name, len(rest), error, trend, plain, len(tokens))


def _left_out(column: Floats, target: Floats) -> float:
    """Return the root mean square error of a line in a column, each point foretold by a fit to the others."""
    from statsmodels.regression.linear_model import OLS
    from statsmodels.stats.outliers_influence import OLSInfluence

    design = np.column_stack([np.ones(len(column)), column]) if np.ptp(column) else np.ones((len(column), 1))
    return float(np.sqrt(np.mean(np.square(OLSInfluence(OLS(target, design).fit()).resid_press))))


def lead(one: tuple[str, Sequence[Curve]], other: tuple[str, Sequence[Curve]], *, seed: int = 0) -> Lead:
    """Say which of two domains moves first, by the cross-correlation of their steps.

    A domain is the mean of its tasks, each brought to mean 0 and spread 1. Its steps are the differences between
    checkpoints for a doubling of tokens, less their own straight trend: that all steps shrink is no lead of anybody.

    Args:
        one: name and curves of a domain.
        other: of another.
        seed: of the permutations.

    Raises:
        MonitorError: too few common checkpoints.
    """
    (first, some), (second, others) = one, other
    tokens, values = common([*some, *others])
    _enough(len(tokens), LED, f"lead or lag of {first} and {second}")
    varied = np.where(np.ptp(values, axis=1) > 0)[0]
    sides = [varied[varied < len(some)], varied[varied >= len(some)]]
    if not all(len(side) for side in sides):
        raise MonitorError(f"lead or lag of {first} and {second}: one is the same at all common checkpoints")
    means = [stats.zscore(values[side], axis=1).mean(axis=0) for side in sides]
    a, b = (signal.detrend(np.diff(mean) / np.diff(np.log2(tokens))) for mean in means)
    lags = range(-(len(a) // 3), len(a) // 3 + 1)

    def strongest(steps: Floats, axis: int = -1) -> Floats:
        found: Floats = np.max([np.abs(_at(np.moveaxis(steps, axis, -1), b, lag)) for lag in lags], axis=0)
        return found

    p = _p_value(a, strongest, "greater", seed)
    lag = max(lags, key=lambda lag: (abs(float(_at(a, b, lag))), -abs(lag)))
    names = (first, second) if lag >= 0 else (second, first)
    return Lead(*names, abs(lag), float(_at(a, b, lag)), p, len(a))


def _at(a: Floats, b: Floats, lag: int) -> Floats:
    """Return the correlation of steps of a, shape (…, n), with those of b that come `lag` later; 0 of steps alike."""
    early, late = (a[..., : a.shape[-1] - lag], b[lag:]) if lag >= 0 else (a[..., -lag:], b[: len(b) + lag])
    early, late = early - early.mean(axis=-1, keepdims=True), late - late.mean()
    size = np.sqrt((early**2).sum(axis=-1) * (late**2).sum())
    found: Floats = np.divide(early @ late, size, out=np.zeros_like(size), where=size > 1e-12)
    return found
