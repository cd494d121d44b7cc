"""The loop: phases, steps, what is told of them, and checkpoints between them.

    newest checkpoint ─▶ Stand ─▶ for each leg from there: for each step: gradient ─ take ─ tell ─ save where due
                                                         ledger, export at the end ◀┘     └▶ examine where due

Everything that a run needs to go on is in `Stand`: which step, which phase, how many of its sequences. So a run that is
killed anywhere and started again takes the same sequences in the same steps, on any number of ranks.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from mixture.errors import MixtureError
from mixture.loader.batch import Batch, Step, Steps
from mixture.storage import only_run
from mixture.train.breakdown import Cells
from mixture.train.build import Built, build
from mixture.train.checkpoint import Checkpoints, Stand, full_weights
from mixture.train.course import Course
from mixture.train.ending import mark_end, unmark_end
from mixture.train.examining import Examining, Opening
from mixture.train.failing import explained
from mixture.train.resume import stand_of, weights_of
from mixture.train.run import Leg, Run, legs_of
from mixture.train.schedule import due
from mixture.train.signals import Stop, heeding
from mixture.train.step import Result, Stepper
from mixture.train.telling import Telling, not_finite
from mixture.train.weights import export
from mixture.train.world import Say, World, join


@dataclass(frozen=True)
class Choices:
    """What the command line says of a run.

    Attributes:
        changed: go on although the config says something else than the checkpoint's.
        anyway: start although memory seems too small.
    """

    changed: bool = False
    anyway: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        stand: where it stands.
        begun: the step that it went on from; 0 where it began.
        loss: of the last step; None where there was none to take.
        exported: the folder of the weights in Hugging Face's format; None where they were not written.
        signal: the signal that ended it; None where it came to its end.
        gate: why an examination ended it before its last step; empty where none did.
    """

    stand: Stand
    begun: int
    loss: float | None
    exported: Path | None
    signal: int | None
    gate: str = ""


def train(run: Run, say: Say, tell: Say, choices: Choices | None = None, opening: Opening | None = None) -> Outcome:
    """Train from where the run's folder stands to its end.

    Args:
        run: what is asked for.
        say: is told what happens, sentence by sentence.
        tell: is told of each step, line by line.
        choices: what the command line says.
        opening: gets ready to examine checkpoints, where the config asks for it.

    Raises:
        MixtureError: it cannot start, or cannot go on; what was saved stays.
    """
    parallel = run.config.parallel
    with join(parallel.replicate, parallel.cp) as world, heeding() as stop:
        quiet: Say = lambda _: None  # noqa: E731
        training = _Training(run, world, *((say, tell) if world.first else (quiet, quiet)), stop)
        with explained(world), training.prepared(choices or Choices(), opening):
            return training.go()


class _Training:
    """A run under way."""

    def __init__(self, run: Run, world: World, say: Say, tell: Say, stop: Stop) -> None:
        self._run, self._world, self._say, self._tell, self._stop = run, world, say, tell, stop
        rules = run.config.checkpoints
        self._checkpoints = Checkpoints(
            run.out / "checkpoints", world, keep=rules.keep, asynchronous=rules.asynchronous
        )
        self._examining = Examining(run, world, say)

    @contextlib.contextmanager
    def prepared(self, choices: Choices, opening: Opening | None) -> Iterator[None]:
        """Build the model, find where the run stands, and hold its folder while the block lasts."""
        run, world, newest = self._run, self._world, self._checkpoints.begun()
        problem: MixtureError | None = None
        with contextlib.ExitStack() as stack:
            try:
                planned = legs_of(run)
                self._stand = stand_of(run, newest, self._say, changed=choices.changed)
                self._begun = self._stand.step
                self._course = Course(run, world, self._say, planned, step=self._begun, anew=choices.changed)
                legs = self._course.legs
                weights = weights_of(run, newest, self._say)
                self._built: Built = build(run, legs, legs[self._stand.phase], world, self._say, anyway=choices.anyway)
                if world.first:
                    stack.enter_context(only_run(run.out))
                    run.describe()
                self._examining.open(opening, legs)
            except MixtureError as error:
                problem = error
            world.together(problem)
            self._checkpoints.sweep()
            if weights is not None:
                self._checkpoints.load(weights, self._built.trainee, self._built.optimizer)
            yield

    def go(self) -> Outcome:
        """Take all steps that are left, and end the run."""
        telling = self._telling()
        loss: float | None = None
        try:
            if self._world.first:
                unmark_end(self._run.out)
            self._course.waive()
            self._examine_where_it_stands(telling)
            for number in range(self._stand.phase, len(self._course.legs)):
                # Legs may be cut on the way.
                leg = self._course.legs[number]
                if leg.stretch.steps and not self._over:
                    loss = self._leg(number, leg, telling) or loss
        except (MixtureError, SystemExit):
            # All ranks end together, so what they were writing can be ended, too.
            self._checkpoints.end()
            raise
        finally:
            if telling is not None:
                telling.close()
        if self._stand.step > self._begun:
            self._save()
        self._checkpoints.end()
        signal = self._stop.signal
        exported = self._export() if self._run.config.checkpoints.export and signal is None else None
        if self._world.first and signal is None:
            mark_end(self._run.out, self._stand)
        return Outcome(self._stand, self._begun, loss, exported, signal, self._course.gate)

    @property
    def _over(self) -> bool:
        """Whether the run ends here, asked to by a signal or by a gate."""
        return self._stop.agreed or bool(self._course.gate)

    def _telling(self) -> Telling | None:
        """Open what is told of steps, on rank 0."""
        if not self._world.first:
            return None
        return Telling(
            self._run, self._course.legs, self._built, self._world, self._say, self._tell, done=self._stand.step
        )

    def _leg(self, number: int, leg: Leg, telling: Telling | None) -> float | None:
        """Train on one phase, from where the run stands; return the last loss."""
        rope = self._built.enter(leg)
        stepper = Stepper(
            self._built.trainee,
            self._built.optimizer,
            self._world,
            clip=leg.config.optimizer.clip,
            cells=Cells(leg.stream.domains, leg.config.events.positions),
            precision=leg.config.precision,
        )
        loss: float | None = None
        since = time.perf_counter()
        with self._steps(number, leg) as steps:
            for step, batches in self._taken(steps, leg):
                result = self._one(stepper, step, batches, leg)
                lr = self._course.rates.lr(number, step.number)
                stepper.take(lr)
                before, loss = self._stand, result.loss
                self._stand = replace(
                    before,
                    step=before.step + 1,
                    phase=number,
                    sequences=steps.state.sequences,
                    tokens=before.tokens + result.tokens,
                    rope=rope,
                    what=self._run.config.what(),
                )
                # From one step's end to the next one's: reading and saving are part of it.
                seconds, since = time.perf_counter() - since, time.perf_counter()
                if telling is not None:
                    telling.step(leg, step, result, self._stand, lr=lr, seconds=seconds)
                if self._between(before, leg, telling, stop=result.stop):
                    since = time.perf_counter()
                if result.stop:
                    self._stop.agree()
                if self._over or leg is not self._course.legs[number]:
                    return loss
        return loss

    def _steps(self, number: int, leg: Leg) -> Steps:
        """Return the steps of this rank, from where the run stands."""
        return Steps(
            leg.stream,
            batch=leg.stretch.batch,
            micro=leg.config.batch.micro,
            rank=self._world.data_rank,
            ranks=self._world.data_ranks,
            documents=leg.config.documents,
            balance=leg.config.order.balance,
            state=leg.stream.state(self._stand.sequences if number == self._stand.phase else 0),
        )

    def _taken(self, steps: Steps, leg: Leg) -> Iterator[tuple[Step[Batch], list[Batch]]]:
        """Yield the steps that the run takes of a phase, each with this rank's micro-batches.

        Raises:
            MixtureError: a rank could not read its part; nobody begins a step that somebody cannot take.
        """
        coming = iter(steps)
        while True:
            step, batches, problem = None, list[Batch](), None
            try:
                step = next(coming, None)
                if step is not None and step.number < leg.stretch.steps:
                    batches = list(step)
            except MixtureError as error:
                problem = error
            self._world.together(problem, 0 if step is None else step.digest)
            if step is None or step.number >= leg.stretch.steps:
                return
            yield step, batches

    def _one(self, stepper: Stepper, step: Step[Batch], batches: list[Batch], leg: Leg) -> Result:
        """Compute one step's gradient.

        Raises:
            TrainError: the loss or the gradient is no number; the weights are as they were.
        """
        result = stepper.gradient(batches, stop=self._stop.asked)
        wrong = None if result.finite else not_finite(self._run, leg, step, result, self._stand.step + 1)
        self._world.together(wrong)
        return result

    def _between(self, before: Stand, leg: Leg, telling: Telling | None, *, stop: bool) -> bool:
        """Save and examine where that is due, and publish what was saved meanwhile; say whether it was examined."""
        places = (before.step, before.tokens), (self._stand.step, self._stand.tokens)
        self._checkpoints.poll()
        examined = self._examining.due(*places)
        if stop or examined or due(self._run.config.checkpoints.every, *places):
            self._save()
        # Of a run that is to end now, the next start examines the checkpoint.
        if examined and not stop:
            self._examine(leg, telling)
        return examined

    def _examine_where_it_stands(self, telling: Telling | None) -> None:
        """Examine what was due at the last checkpoint, or the model before its first step."""
        leg = self._course.legs[self._stand.phase]
        if self._course.gate or not self._examining.due_at(self._stand, leg):
            return
        if not self._stand.step:
            self._save()
        self._examine(leg, telling)

    def _examine(self, leg: Leg, telling: Telling | None) -> None:
        """Let the newest checkpoint be examined, and follow what that decides."""
        self._checkpoints.finish()
        at = self._stand
        found = self._examining.at(self._checkpoints.path_of(at), leg, lambda: self._stop.asked)
        if telling is not None and found.scalars:
            telling.examination(at.step, found)
        if found.abandoned:
            self._stop.agree()
            return
        self._course.decide(found, at)
        if telling is not None:
            telling.replan(self._course.legs)

    def _save(self) -> None:
        ledger = self._course.ledger(self._stand)
        self._checkpoints.save(self._stand, ledger, self._built.trainee, self._built.optimizer)

    def _export(self) -> Path:
        """Write the weights in Hugging Face's format, unless the run had come to its end before, and they are there."""
        folder = self._run.out / "export"
        if self._stand.step == self._begun and (folder / "config.json").exists():
            return folder
        weights = full_weights(self._built.trainee)
        if self._world.first:
            export(self._built.trainee, weights, folder)
        self._world.wait()
        return folder
