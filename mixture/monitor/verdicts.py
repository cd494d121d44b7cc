"""What is said of curves and levels: saturated, moving, or not yet known; with what behind it, and in words.

    Verdict        niah score: saturated; the next doubling of tokens would gain 0.008 (0.002 to 0.014), 0.02 is …
    LevelVerdict   behaviour: saturated since 100B (1 saturated)
    Saturation     the three levels, their order, and the warning of saturation in appearance only

How a verdict is reached is in `saturation`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mixture.errors import MonitorError
from mixture.monitor.curves import Curve

State = Literal["saturated", "moving", "not yet known"]

#: Fewest checkpoints for a verdict.
FEWEST = 3


@dataclass(frozen=True)
class Epsilon:
    """The least gain that is worth a doubling of the tokens.

    Attributes:
        value: in the metric's unit, or a share of its value.
        relative: whether it is a share; such a metric is above 0, and fitted by its logarithm.

    Raises:
        MonitorError: on construction, when it is not above 0.
    """

    value: float
    relative: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.value < np.inf:
            raise MonitorError(f"epsilon is {self.value}; the least gain that counts is above 0, as 0.02 for a score")

    def write(self, gain: float) -> str:
        """Write a gain with two digits, a share in percent."""
        return f"{100 * gain:.2g} %" if self.relative else f"{gain:.2g}"


@dataclass(frozen=True)
class Verdict:
    """What is known of one curve.

    Attributes:
        curve: that is judged.
        state: in three words at most.
        gain: what the next doubling is expected to better, in the metric's unit, or a share where epsilon is one.
        low: 95 % end of it.
        high: the other end; None, as the other two, where there are too few checkpoints.
        epsilon: the least gain that counts.
        points: checkpoints that the fit looked back on.
        since: tokens of the checkpoint from which on every verdict was saturated; None where the last is not.
    """

    curve: Curve
    state: State
    gain: float | None
    low: float | None
    high: float | None
    epsilon: Epsilon
    points: int
    since: float | None = None

    @property
    def words(self) -> str:
        """The verdict as a sentence."""
        if self.gain is None or self.low is None or self.high is None:
            return (
                f"{self.curve.name}: not yet known, by {self.points} checkpoints after the first token; "
                f"{FEWEST} are the fewest"
            )
        gain, low, high, least = map(self.epsilon.write, (self.gain, self.low, self.high, self.epsilon.value))
        worse = ", and it is getting worse" if self.high < 0 else ""
        return (
            f"{self.curve.name}: {self.state}; the next doubling of tokens would gain {gain} ({low} to {high}), "
            f"{least} is the least that counts{worse}"
        )


@dataclass(frozen=True)
class LevelVerdict:
    """What is known of one level: the least settled of its curves decides.

    Attributes:
        level: name.
        state: saturated where every curve is, moving where one is moving, else not yet known.
        since: tokens from which on all curves were saturated.
        curves: the verdicts behind it.
    """

    level: str
    state: State
    since: float | None
    curves: tuple[Verdict, ...]

    @property
    def last(self) -> float | None:
        """Tokens of the last checkpoint; None where there is none."""
        return max((verdict.curve.tokens[-1] for verdict in self.curves if verdict.curve.tokens), default=None)

    @property
    def words(self) -> str:
        """The verdict as a sentence."""
        if not self.curves:
            return f"{self.level}: not yet known, nothing was measured that is judged"
        counts = ", ".join(
            f"{sum(verdict.state == state for verdict in self.curves)} {state}"
            for state in ("saturated", "moving", "not yet known")
            if any(verdict.state == state for verdict in self.curves)
        )
        since = f" since {amount(self.since)}" if self.since else ""
        return f"{self.level}: {self.state}{since} ({counts})"


@dataclass(frozen=True)
class Saturation:
    """The verdicts of the three levels.

    Attributes:
        model: name of the run or model.
        levels: in the order of `JUDGED`.
    """

    model: str
    levels: tuple[LevelVerdict, ...]

    @property
    def order(self) -> tuple[LevelVerdict, ...]:
        """The levels that are saturated, the first first."""
        return tuple(sorted((one for one in self.levels if one.since), key=lambda one: one.since or 0))

    @property
    def moving(self) -> tuple[str, ...]:
        """Names of the levels that are moving."""
        return tuple(one.level for one in self.levels if one.state == "moving")

    @property
    def deceptive(self) -> bool:
        """Whether behaviour is saturated while another level is moving."""
        return self.levels[0].state == "saturated" and bool(self.moving)

    @property
    def all_saturated(self) -> bool:
        """Whether every level is."""
        return all(one.state == "saturated" for one in self.levels)

    @property
    def words(self) -> tuple[str, ...]:
        """The verdicts, their order and the warning, a sentence each."""
        told = [one.words for one in self.levels]
        if len(self.order) > 1:
            told.append("order: " + ", then ".join(f"{one.level} at {amount(one.since or 0)}" for one in self.order))
        if self.deceptive:
            told.append(
                f"deceptive saturation: behaviour has settled while {' and '.join(self.moving)} still "
                f"move{'s' if len(self.moving) == 1 else ''}; go on training"
            )
        elif self.levels[0].state == "saturated" and not self.all_saturated:
            told.append("behaviour has settled; whether in appearance only is not known before the other levels are")
        return tuple(told)


def amount(tokens: float) -> str:
    """Write a number of tokens with three digits: 2.1e10 → 21B."""
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if tokens >= 0.9995 * size:
            return f"{tokens / size:.3g}{unit}"
    return f"{tokens:.3g}"
