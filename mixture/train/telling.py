"""What is told of steps: an event and a line of each, and of those that went wrong, where to look."""

from __future__ import annotations

from collections.abc import Sequence

from mixture.errors import TrainError
from mixture.loader.batch import Batch, Step
from mixture.train import flops
from mixture.train.breakdown import Cells
from mixture.train.build import Built
from mixture.train.checkpoint import Stand
from mixture.train.events import Event, Events, Goal, Taken, line, open_events, spike
from mixture.train.examining import Finding
from mixture.train.run import Leg, Run
from mixture.train.step import Result
from mixture.train.world import Say, World


def made_of(run: Run, leg: Leg, step: Step[Batch]) -> Taken:
    """Return what a step was made of."""
    shuffled = leg.config.order.shuffle != "none"
    sequences = tuple(step.sequences.tolist())
    return Taken(run.lock_path, leg.name, step.number, leg.stretch.batch, sequences, shuffled, run.options)


def not_finite(run: Run, leg: Leg, step: Step[Batch], result: Result, number: int) -> TrainError:
    """Return what is said of a step whose loss or gradient is no number.

    Args:
        run: the run.
        leg: its phase.
        step: what it was made of.
        result: what it came to.
        number: of the step in the run, from 1.
    """
    return TrainError(
        f"step {number:,}: loss {result.loss:.4g}, gradient {result.grad_norm:.4g}; the step was not taken and the "
        f"last checkpoint stays; look at its documents (`{made_of(run, leg, step).command}`), or lower optimizer.lr"
    )


class Telling:
    """Tells of steps; rank 0 does.

    Args:
        run: the run.
        legs: its phases.
        built: what is trained.
        world: the ranks.
        say: is told what is out of the ordinary.
        tell: is told of each step, line by line.
        done: steps that were done before.
    """

    def __init__(
        self, run: Run, legs: Sequence[Leg], built: Built, world: World, say: Say, tell: Say, *, done: int
    ) -> None:
        self._run, self._built, self._world, self._say, self._tell = run, built, world, say, tell
        self._events: Events = open_events(run.config, run.out, say, step=done)
        self.replan(legs)

    def replan(self, legs: Sequence[Leg]) -> None:
        """Count anew how far the run goes."""
        stretches = [leg.stretch for leg in legs]
        self._goal = Goal(sum(s.steps for s in stretches), sum(s.tokens(s.steps) for s in stretches))

    def examination(self, step: int, found: Finding) -> None:
        """Tell what an examination came to."""
        self._events.examined(step, found.scalars, found.action, found.reason)

    def step(self, leg: Leg, step: Step[Batch], result: Result, stand: Stand, *, lr: float, seconds: float) -> None:
        """Tell of a step that was taken.

        Args:
            leg: the phase it was of.
            step: what it was made of.
            result: what it came to.
            stand: where the run stands after it.
            lr: its learning rate.
            seconds: since the step before.
        """
        peak = self._built.peak
        cost = flops.step_flops(self._built.shape, result.tokens, result.attended)
        event = Event(
            step=stand.step,
            phase=leg.name,
            sequences=stand.sequences,
            tokens=stand.tokens,
            loss=result.loss,
            grad_norm=result.grad_norm,
            lr=lr,
            seconds=seconds,
            tokens_per_second=result.tokens / seconds,
            mfu=None if peak is None else flops.mfu(cost, seconds, self._world.size, peak),
            memory=self._world.peak_memory(),
            breakdown=Cells(leg.stream.domains, leg.config.events.positions).table(result.cells.tolist()),
        )
        above, limit = self._events.write(event), leg.config.events.spike
        if stand.step % leg.config.events.every == 0:
            self._tell(line(event, self._goal))
        if limit is not None and above > limit:
            self._say(spike(event, above, made_of(self._run, leg, step)))

    def close(self) -> None:
        """Hand over what is held back."""
        self._events.close()
