"""Steps and learning rates: pure functions of the config and of what the lock holds.

    phase    sequences   length   batch        steps
    short    1000        8K       128          8: seven of 128 sequences, one of 104
    long     40          128K     8            5                                       `stop` may end the run earlier

A schedule is a factor of `optimizer.lr`, from the step's number. Of 10 steps, with a warm-up of 2:

    step        0     1     2     3     4     5     6     7     8     9     (10)
    constant    1/2   1     1     1     1     1     1     1     1     1
    cosine      1/2   1     1     .966  .868  .722  .55   .378  .232  .134  .1      floor 0.1
    wsd         1/2   1     1     1     1     1     1     1     1     .293  0       decay of 2 steps, 1-sqrt

No step is wasted: the first one's factor is 1/warm-up, and the floor is where the step after the last would be. A decay
goes from 1 to the floor f as f + (1-f)·g(p), p the part of it that is done: g is 1-p, 1-√p (Hägele et al. 2024, arXiv
2405.18392) or (1+cos πp)/2 (Loshchilov & Hutter 2017, arXiv 1608.03983). Warm-up, stable, decay: Hu et al. 2024, arXiv
2404.06395.

One schedule runs over all phases of a run, from its first step to its last: another phase is no new warm-up. A phase
that gives a `schedule` has that for itself, and the run's schedule goes over the others as if it were not there. The
peak is each phase's own `optimizer.lr`. Lengths in tokens and shares are turned into steps once, by the average step of
what they are a part of.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mixture.errors import ConfigError
from mixture.train.amount import Amount
from mixture.train.config import TrainConfig
from mixture.train.rules import ScheduleRule

_DECAY = Amount("share", 0.1)
#: From 1 to 0 as the part that is done goes from 0 to 1.
_SHAPES: dict[str, Callable[[float], float]] = {
    "linear": lambda p: 1 - p,
    "sqrt": lambda p: 1 - math.sqrt(p),
    "cosine": lambda p: (1 + math.cos(math.pi * p)) / 2,
}


@dataclass(frozen=True)
class Stretch:
    """What a run takes of one phase.

    Attributes:
        name: the phase's, as in the lock.
        sequences: how many are taken, all in all.
        length: places in a sequence.
        batch: sequences of each step; the last may have fewer.
    """

    name: str
    sequences: int
    length: int
    batch: int

    @property
    def steps(self) -> int:
        """How many steps they make."""
        return -(-self.sequences // self.batch)

    def taken(self, steps: int) -> int:
        """Return how many sequences the first steps take."""
        return min(steps * self.batch, self.sequences)

    def tokens(self, steps: int) -> int:
        """Return how many tokens the first steps take: places, padding counted."""
        return self.taken(steps) * self.length


def stretches(config: TrainConfig, phases: Sequence[tuple[str, int, int]]) -> tuple[Stretch, ...]:
    """Return what a run takes of each phase; phases after its end are there, with no steps.

    Args:
        config: of the run.
        phases: name, sequences and sequence length of each phase of the lock.

    Raises:
        ConfigError: a step holds no sequence, or the run no step.
    """
    whole = [Stretch(name, held, length, config.of(name).batch.of(length)) for name, held, length in phases]
    if config.stop is None:
        return tuple(whole)
    if config.stop.kind == "steps":
        left = int(config.stop.value)
    else:
        of = 1 if config.stop.kind == "tokens" else sum(s.tokens(s.steps) for s in whole)
        most = config.stop.value * of
        # Whole steps: the last one that is not past the mark.
        ends = [n * s.length for s in whole for n in _sizes(s)]
        left = bisect.bisect_right(list(itertools.accumulate(ends)), most)
        if not left:
            raise ConfigError(
                f"stop: {config.stop} is less than the first step of {ends[0]:,} tokens; raise it, or lower batch"
            )
    out = []
    for stretch in whole:
        mine = min(left, stretch.steps)
        left -= mine
        out.append(Stretch(stretch.name, stretch.taken(mine), stretch.length, stretch.batch))
    return tuple(out)


def _sizes(stretch: Stretch) -> list[int]:
    """Return the sequences of each step."""
    return [stretch.taken(n + 1) - stretch.taken(n) for n in range(stretch.steps)]


@dataclass(frozen=True)
class Curve:
    """A schedule in steps.

    Attributes:
        steps: of the stretch of training that it is of.
        warmup: steps of the linear warm-up.
        decay: steps of the decay at its end.
        floor: the factor where the decay ends.
        shape: of the decay: `linear`, `sqrt` or `cosine`.
    """

    steps: int
    warmup: int = 0
    decay: int = 0
    floor: float = 0.0
    shape: str = "linear"

    def factor(self, step: int) -> float:
        """Return the factor of a step, counted from 0; above the floor and up to 1."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        done = step - (self.steps - self.decay)
        if not self.decay or done < 0:
            return 1.0
        return self.floor + (1 - self.floor) * max(0.0, _SHAPES[self.shape](min(1.0, done / self.decay)))


def curve(rule: ScheduleRule, steps: int, tokens: int, where: str = "schedule") -> Curve:
    """Turn a schedule into steps.

    Args:
        rule: as the config has it.
        steps: of the stretch of training that it is of.
        tokens: of the same.
        where: what the rule is called in errors.

    Raises:
        ConfigError: warm-up and decay do not fit into the steps.
    """
    average = tokens / steps if steps else 1.0
    warmup = rule.warmup.steps(of=steps, tokens_a_step=average)
    decay, shape, floor = 0, "linear", rule.floor or 0.0
    if rule.kind == "cosine":
        decay, shape, floor = steps - warmup, "cosine", 0.1 if rule.floor is None else rule.floor
    elif rule.kind == "wsd":
        decay, shape = (rule.decay or _DECAY).steps(of=steps, tokens_a_step=average), rule.shape or "sqrt"
    if warmup > steps or warmup + decay > steps:
        both = f" and decay {rule.decay or _DECAY} ({decay:,} steps)" if rule.kind == "wsd" else ""
        raise ConfigError(
            f"{where}: warmup {rule.warmup} ({warmup:,} steps){both} do not fit into {steps:,} steps; shorten them, or "
            "train longer"
        )
    return Curve(steps, warmup, decay, floor, shape)


@dataclass(frozen=True)
class Rates:
    """The learning rate of every step of a run.

    Attributes:
        curves: the schedule that each phase follows.
        before: steps of that schedule before the phase's first.
        peaks: `optimizer.lr` of each phase.
    """

    curves: tuple[Curve, ...]
    before: tuple[int, ...]
    peaks: tuple[float, ...]

    @staticmethod
    def of(config: TrainConfig, run: Sequence[Stretch]) -> Rates:
        """Lay the schedules of a config over a run.

        Raises:
            ConfigError: one does not fit.
        """
        shared = [s for s in run if not _own(config, s.name)]
        usual = None
        if any(s.steps for s in shared):
            usual = curve(config.schedule, sum(s.steps for s in shared), sum(s.tokens(s.steps) for s in shared))
        curves, before, done = [], [], 0
        for stretch in run:
            if usual is not None and stretch in shared:
                curves.append(usual)
                before.append(done)
                done += stretch.steps
                continue
            where, rule = f"phases.{stretch.name}.schedule", config.of(stretch.name).schedule
            steps = stretch.steps
            curves.append(curve(rule, steps, stretch.tokens(steps), where) if steps else Curve(0))
            before.append(0)
        return Rates(tuple(curves), tuple(before), tuple(config.of(s.name).optimizer.lr for s in run))

    def factor(self, phase: int, step: int) -> float:
        """Return the schedule's factor for a step of a phase, counted from 0."""
        return self.curves[phase].factor(self.before[phase] + step)

    def lr(self, phase: int, step: int) -> float:
        """Return the learning rate of a step of a phase, counted from 0."""
        return self.peaks[phase] * self.factor(phase, step)


def _own(config: TrainConfig, phase: str) -> bool:
    rule = config.phases.get(phase)
    return rule is not None and rule.schedule is not None


def due(every: Amount, before: tuple[int, int], after: tuple[int, int]) -> bool:
    """Say whether a multiple of `every` was reached between two places of a run.

    Args:
        every: steps or tokens.
        before: steps and tokens that had been done.
        after: steps and tokens that are done now.
    """
    at = 0 if every.kind == "steps" else 1
    return before[at] // every.value < after[at] // every.value
