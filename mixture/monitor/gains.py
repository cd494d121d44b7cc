"""What would the next doubling of the tokens gain? A fit through the last checkpoints foretells it, with an interval.

    tokens   12.5 G  25 G   50 G   100 G  200 G
    score    0.62    0.74   0.81   0.84   0.86           gain of 200 G → 400 G: 0.011 (-0.004 … 0.026)

Five points or more have a power law, fewer a line over log N: that overrates what a curve that bends still gains, so it
errs towards training on. Values are drawn again, by their samples or by their errors, and by the wobble of training
that the fit leaves; every draw is fitted.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mixture.errors import MonitorError
from mixture.monitor.curves import Curve, Floats
from mixture.monitor.fits import drawn_values, ends, fit_draws

#: Fewest points, where there are so many, and doublings of tokens that a fit looks back on.
LAST, DOUBLINGS = 5, 2.0
#: Fewest points of a power law here: two more than a line has numbers, so that it can be wrong.
BENT = 5
#: Random draws behind an interval.
DRAWS = 1000


def next_gain(
    curve: Curve,
    *,
    relative: bool = False,
    samples: Sequence[npt.ArrayLike] | None = None,
    last: int = LAST,
    doublings: float = DOUBLINGS,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[float, float, float, int]:
    """Return what the next doubling of tokens should gain, the 95 % ends of that, and the points behind it.

    Args:
        curve: at least two checkpoints; of a metric that falls, a fall is a gain.
        relative: fit the logarithm, so that the gain is a share.
        samples: values of each checkpoint's samples, shape (m,) each; where all have as many they are taken to be the
            same probes, and drawn together: what is hard at one checkpoint is hard at the next, so gains are better
            known than values. Without them values are drawn by their errors.
        last: fewest points of the fit.
        doublings: of tokens that it looks back on.
        draws: behind the interval.
        seed: of the draws.

    Raises:
        MonitorError: a relative gain of values that are not above 0.
    """
    start = _start(curve, last, doublings)
    x = np.array(curve.tokens[start:]) / curve.tokens[-1]
    values, errors = (np.array(part[start:]) for part in (curve.values, curve.errors))
    drawn = None if samples is None else resampled(samples[start:], draws, seed)
    if relative:
        if values.min() <= 0:
            raise MonitorError(f"{curve.name}: {values.min()} has no logarithm; give an epsilon that is not relative")
        errors = errors / values
        drawn = None if drawn is None else np.log(np.maximum(drawn, values.min() * 1e-3))
        values = np.log(values)
    sign = -1.0 if curve.falls else 1.0
    bent = len(x) >= BENT
    fit = _bent_gains if bent else _straight_gains
    fitted = _fitted(x, values, bent=bent)
    noisy = drawn_values(
        values,
        values - fitted,
        errors if drawn is None else drawn.std(axis=0),
        parameters=3 if bent else 2,
        draws=draws,
        seed=seed,
        sampled=drawn,
    )
    gain = sign * float(fit(x, values[None])[0])
    low, high = ends(sign * fit(x, noisy))
    return gain, min(float(low), gain), max(float(high), gain), len(x)


def _start(curve: Curve, last: int, doublings: float) -> int:
    """Return the number of the first checkpoint that counts."""
    by_tokens = int(np.searchsorted(curve.tokens, curve.tokens[-1] / 2**doublings * (1 - 1e-9)))
    return max(0, min(by_tokens, len(curve) - last))


def _straight_gains(x: Floats, drawn: Floats) -> Floats:
    """Return the slope over log2 N of each draw, shape (draws,)."""
    solver = np.linalg.pinv(np.column_stack([np.ones_like(x), np.log2(x)]))
    found: Floats = drawn @ solver[1]
    return found


def _bent_gains(x: Floats, drawn: Floats) -> Floats:
    """Return what the power law of each draw gains from N = 1 to 2, shape (draws,)."""
    _, b, c = fit_draws(x, drawn).T
    found: Floats = b * (1 - 2**-c)
    return found


def _fitted(x: Floats, values: Floats, *, bent: bool) -> Floats:
    if bent:
        ((a, b, c),) = fit_draws(x, values[None])
        law: Floats = a - b * x**-c
        return law
    design = np.column_stack([np.ones_like(x), np.log2(x)])
    line: Floats = design @ (np.linalg.pinv(design) @ values)
    return line


def resampled(samples: Sequence[npt.ArrayLike], draws: int, seed: int) -> Floats:
    """Return means of samples that are drawn with replacement, shape (draws, checkpoints)."""
    rows = [np.asarray(one, np.float64).reshape(-1) for one in samples]
    rng = np.random.default_rng(seed)
    if len({len(row) for row in rows}) == 1:
        whole = np.stack(rows)
        means = [whole[:, rng.integers(0, whole.shape[1], whole.shape[1])].mean(axis=1) for _ in range(draws)]
        return np.array(means)
    return np.column_stack([row[rng.integers(0, len(row), (draws, len(row)))].mean(axis=1) for row in rows])
