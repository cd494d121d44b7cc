"""Curves: what a metric over the whole grid did from checkpoint to checkpoint.

    rows of the long table                                 Curve
    tiny 0 B    niah score 0.10 (0.02 … 0.18)              tokens   20 G    50 G   100 G
    tiny 20 B   niah score 0.70 (0.60 … 0.80)      →       values   0.70    0.80   0.82
    tiny 50 B   niah score 0.80 …                          errors   0.051   0.046  0.044

Fits are over the logarithm of tokens, and before training there are none: the checkpoint at 0 is left out. An error is
the standard error that the interval speaks of, a quarter of its width or so. Where a score of several samples is the
same for all of them there is no interval, and yet no certainty: its error is Wilson's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from mixture.errors import MonitorError
from mixture.monitor.measures import LEVELS, Measure

Floats = npt.NDArray[np.float64]
#: Model, level, task, domain and metric.
Names = tuple[str, str, str, str, str]

#: Words in the names of metrics that are better when they are lower.
_FALLING = ("perplexity", "ppl", "loss", "bits_per_byte", "error", "brier", "excess", "wer", "slope")
#: Words in the names of metrics that are shares of samples.
_SHARES = ("score", "acc", "exact_match", "rouge1", "f1")
#: Width of a 95 % interval in standard errors.
_WIDTH = 2 * float(stats.norm.ppf(0.975))


def falls(metric: str) -> bool:
    """Say whether a metric gets better by falling, as perplexity does and a score does not."""
    return any(word in metric.split(",", maxsplit=1)[0].lower() for word in _FALLING)


@dataclass(frozen=True)
class Curve:
    """A metric over checkpoints.

    Attributes:
        model: name of the run or model.
        level: as in `measures.LEVELS`.
        task: as in the long table, as the next two.
        domain: of the task.
        metric: what was measured.
        tokens: trained on at each checkpoint, above 0, rising, shape (n,); steps where tokens are not known.
        values: of the metric, shape (n,).
        errors: standard errors of the values by their samples, at least 0, shape (n,).

    Raises:
        MonitorError: on construction, when the parts do not fit together.
    """

    model: str
    level: str
    task: str
    domain: str
    metric: str
    tokens: tuple[float, ...]
    values: tuple[float, ...]
    errors: tuple[float, ...]

    def __post_init__(self) -> None:
        if not len(self.tokens) == len(self.values) == len(self.errors):
            raise MonitorError(
                f"{self.name}: {len(self.tokens)} checkpoints, {len(self.values)} values, {len(self.errors)} errors; "
                "give one of each"
            )
        if any(a >= b for a, b in zip((0.0, *self.tokens), self.tokens, strict=False)):
            raise MonitorError(f"{self.name}: tokens of checkpoints must be above 0 and rise; sort them")
        if not np.isfinite([*self.tokens, *self.values, *self.errors]).all() or min(self.errors, default=0) < 0:
            raise MonitorError(f"{self.name}: values must be finite and errors at least 0; leave the others out")

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def name(self) -> str:
        """In words: `niah score`, or `holdout loss (books)`."""
        return f"{self.task} {self.metric}" + (f" ({self.domain})" if self.domain else "")

    @property
    def falls(self) -> bool:
        """Whether lower is better."""
        return falls(self.metric)

    def until(self, checkpoints: int) -> Curve:
        """Return the curve of the first so many checkpoints."""
        return self._of(slice(checkpoints))

    def last(self, checkpoints: int) -> Curve:
        """Return the curve of the last so many checkpoints."""
        return self._of(slice(max(0, len(self) - checkpoints), None))

    def _of(self, those: slice) -> Curve:
        names = (self.model, self.level, self.task, self.domain, self.metric)
        return Curve(*names, self.tokens[those], self.values[those], self.errors[those])


def curves(measures: Iterable[Measure], *, model: str | None = None) -> list[Curve]:
    """Return the curves of all rows over the whole grid, levels in their order and names in the alphabet's.

    Args:
        measures: rows of the long table; a later row of the same checkpoint takes the place of an earlier one.
        model: the only one of whom curves are wanted; by default of each that is there.
    """
    found: dict[Names, dict[tuple[int | None, int | None], Measure]] = {}
    for row in measures:
        if row.whole and model in (None, row.model):
            key = (row.model, row.level, row.task, row.domain, row.metric)
            found.setdefault(key, {})[row.step, row.tokens] = row
    order = sorted(found, key=lambda key: (key[0], LEVELS.index(key[1]), *key[2:]))
    by_tokens = {key[0]: True for key in found}
    for key, rows in found.items():
        by_tokens[key[0]] &= all(row.tokens is not None for row in rows.values())
    return [_curve(key, list(found[key].values()), tokens=by_tokens[key[0]]) for key in order]


def _curve(key: Names, rows: list[Measure], *, tokens: bool) -> Curve:
    at = {(row.tokens if tokens else row.step) or 0: row for row in rows}
    those = [(place, at[place]) for place in sorted(at) if place]
    return Curve(
        *key,
        tuple(float(place) for place, _ in those),
        tuple(row.value for _, row in those),
        tuple(error(row) for _, row in those),
    )


def error(row: Measure) -> float:
    """Return the standard error of a measure, by its interval.

    A share of samples that is all or nothing has Wilson's interval: 20 of 20 may be 84 % of all.
    """
    share = any(word in row.metric for word in _SHARES) and 0 <= row.value <= 1
    if row.high > row.low or row.n == 1 or not share:
        return (row.high - row.low) / _WIDTH
    ends = stats.binomtest(round(row.value * row.n), row.n).proportion_ci(method="wilson")
    return float(ends.high - ends.low) / _WIDTH
