"""The loop: phases, steps, what is told of them, and checkpoints between them.

    newest checkpoint ─▶ Stand ─▶ for each leg from there: for each step: gradient ─ take ─ tell ─ save where due
                                                                                     └▶ ledger, export at the end

Everything that a run needs to go on is in `Stand`: which step, which phase, how many of its sequences. So a run that is
killed anywhere and started again takes the same sequences in the same steps, on any number of ranks.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from mixture.errors import MixtureError, TrainError
from mixture.ledger import Ledger
from mixture.loader.batch import Batch, Step, Steps
from mixture.train import flops
from mixture.train.breakdown import Cells
from mixture.train.build import Built, build
from mixture.train.checkpoint import Checkpoints, Stand, full_weights, read_stand
from mixture.train.config import changes
from mixture.train.events import Event, Events, Goal, Taken, line, open_events, spike
from mixture.train.run import Leg, Run, legs_of
from mixture.train.schedule import Rates, due
from mixture.train.signals import Stop, heeding
from mixture.train.step import Result, Stepper
from mixture.train.weights import export
from mixture.train.world import Say, World, join

#: What torch says when a rank is gone.
_LOST = re.compile(r"gloo|nccl|connection|timed? ?out|peer|socket|store", re.IGNORECASE)


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
    """

    stand: Stand
    begun: int
    loss: float | None
    exported: Path | None
    signal: int | None


def train(run: Run, say: Say, tell: Say, choices: Choices | None = None) -> Outcome:
    """Train from where the run's folder stands to its end.

    Args:
        run: what is asked for.
        say: is told what happens, sentence by sentence.
        tell: is told of each step, line by line.
        choices: what the command line says.

    Raises:
        MixtureError: it cannot start, or cannot go on; what was saved stays.
    """
    parallel = run.config.parallel
    with join(parallel.replicate, parallel.cp) as world, heeding() as stop:
        quiet: Say = lambda _: None  # noqa: E731
        training = _Training(run, world, *((say, tell) if world.first else (quiet, quiet)), stop)
        try:
            training.prepare(choices or Choices())
            return training.go()
        except torch.OutOfMemoryError as error:
            raise TrainError(
                f"rank {world.rank}: the GPU's memory is used up ({_line(error)}); lower batch.micro or loss.chunk, "
                "say checkpointing: full, or take more GPUs (parallel.cp for longer sequences)"
            ) from error
        except RuntimeError as error:
            if world.size == 1 or not _LOST.search(str(error)):
                raise
            raise TrainError(
                f"rank {world.rank}: lost another rank ({_line(error)}); what was saved is whole: the same command "
                "goes on from there, and with --max-restarts torchrun gives it by itself"
            ) from error


class _Training:
    """A run under way."""

    def __init__(self, run: Run, world: World, say: Say, tell: Say, stop: Stop) -> None:
        self._run, self._world, self._say, self._tell, self._stop = run, world, say, tell, stop

    def prepare(self, choices: Choices) -> None:
        """Build the model, and find where the run stands."""
        problem: MixtureError | None = None
        try:
            self._legs = legs_of(self._run)
            self._rates = Rates.of(self._run.config, [leg.stretch for leg in self._legs])
            rules = self._run.config.checkpoints
            folder = self._run.out / "checkpoints"
            self._checkpoints = Checkpoints(folder, self._world, keep=rules.keep, asynchronous=rules.asynchronous)
        except MixtureError as error:
            problem = error
        self._world.together(problem)
        newest = self._checkpoints.newest()
        try:
            self._stand = self._begin() if newest is None else self._resume(newest, choices)
            leg = self._legs[self._stand.phase]
            self._built: Built = build(self._run, self._legs, leg, self._world, self._say, anyway=choices.anyway)
        except MixtureError as error:
            problem = error
        self._world.together(problem)
        self._begun = self._stand.step
        self._load(newest)
        if self._world.first:
            self._run.describe()

    def _begin(self) -> Stand:
        config = self._run.config
        return Stand(0, 0, 0, 0, self._run.lock.fingerprint, {}, config.what())

    def _resume(self, newest: Path, choices: Choices) -> Stand:
        stand, out = read_stand(newest), self._run.out
        if stand.lock != self._run.lock.fingerprint:
            raise TrainError(
                f"{out}: its run trains on another lock than {self._run.lock_path}; name another --out, and in the "
                f"config `after: {out}` to go on from its weights"
            )
        differs = changes(stand.what, self._run.config.what())
        order = [change for change in differs if ".order." in f".{change.partition(':')[0]}."]
        if order and stand.tokens:
            raise TrainError(
                f"{out}: has taken sequences in another order ({'; '.join(order)}); in the new one it would take some "
                f"again: leave the order as it is, or name another --out"
            )
        if differs and not choices.changed:
            raise TrainError(
                f"{out}: stands at step {stand.step:,} of a run with another config ({'; '.join(differs)}); give "
                "--changed to go on with this one, or another --out to begin anew"
            )
        self._say(f"goes on from {newest}: step {stand.step:,}, {stand.tokens:,} tokens")
        for change in differs:
            self._say(f"from here on {change}")
        return stand

    def _load(self, newest: Path | None) -> None:
        """Fill weights and moments from a checkpoint: the run's own, or that of the run which it follows."""
        before = self._run.config.after
        if newest is None and before is not None:
            newest = self._after(Path(before))
            self._say(f"begins with the weights and moments of {newest}")
        if newest is not None:
            self._checkpoints.load(newest, self._built.trainee, self._built.optimizer)

    def _after(self, before: Path) -> Path:
        theirs = Checkpoints(before / "checkpoints", self._world, keep=1, asynchronous=False)
        found = before if (before / "state.json").exists() else theirs.newest()
        self._world.together(
            None if found else TrainError(f"after: {before}: no checkpoint in it; name a run's folder, or a checkpoint")
        )
        return found or before

    def go(self) -> Outcome:
        """Take all steps that are left, and end the run."""
        config, world = self._run.config, self._world
        events = open_events(config, self._run.out, self._say, step=self._stand.step) if world.first else None
        loss: float | None = None
        try:
            for number, leg in enumerate(self._legs):
                if number < self._stand.phase or self._stop.agreed or not leg.stretch.steps:
                    continue
                loss = self._leg(number, leg, events) or loss
        except (MixtureError, SystemExit):
            # All ranks end together, so what they were writing can be ended, too.
            self._end_saves()
            raise
        finally:
            if events:
                events.close()
        if self._stand.step > self._begun:
            self._save()
        self._end_saves()
        signal = self._stop.signal
        exported = self._export() if config.checkpoints.export and signal is None else None
        return Outcome(self._stand, self._begun, loss, exported, signal)

    @property
    def _goal(self) -> Goal:
        stretches = [leg.stretch for leg in self._legs]
        return Goal(sum(s.steps for s in stretches), sum(s.tokens(s.steps) for s in stretches))

    def _leg(self, number: int, leg: Leg, events: Events | None) -> float | None:
        """Train on one phase, from where the run stands; return the last loss."""
        built, world = self._built, self._world
        rope = built.enter(leg)
        stepper = Stepper(
            built.trainee,
            built.optimizer,
            world,
            clip=leg.config.optimizer.clip,
            cells=Cells(leg.stream.domains, leg.config.events.positions),
            precision=leg.config.precision,
        )
        first = self._stand.sequences if number == self._stand.phase else 0
        steps = Steps(
            leg.stream,
            batch=leg.stretch.batch,
            micro=leg.config.batch.micro,
            rank=world.data_rank,
            ranks=world.data_ranks,
            documents=leg.config.documents,
            balance=leg.config.order.balance,
            state=leg.stream.state(first),
        )
        loss: float | None = None
        with steps:
            for step, batches in self._taken(steps, leg):
                begun = time.perf_counter()
                result = self._one(stepper, step, batches, leg)
                lr = self._rates.lr(number, step.number)
                stepper.take(lr)
                before, loss = self._stand, result.loss
                self._stand = Stand(
                    before.step + 1,
                    number,
                    steps.state.sequences,
                    before.tokens + result.tokens,
                    before.lock,
                    rope,
                    self._run.config.what(),
                )
                if events:
                    self._told(events, leg, step, result, lr, time.perf_counter() - begun)
                self._between(before, stop=result.stop)
                if result.stop:
                    self._stop.agree()
                    return loss
        return loss

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
        self._world.together(None if result.finite else self._not_finite(step, leg, result))
        return result

    def _not_finite(self, step: Step[Batch], leg: Leg, result: Result) -> TrainError:
        look = self._made_of(leg, step).command
        return TrainError(
            f"step {self._stand.step + 1:,}: loss {result.loss:.4g}, gradient {result.grad_norm:.4g}; the step was not "
            f"taken and the last checkpoint stays; look at its documents (`{look}`), or lower optimizer.lr"
        )

    def _made_of(self, leg: Leg, step: Step[Batch]) -> Taken:
        """Return what a step was made of."""
        shuffled = leg.config.order.shuffle != "none"
        sequences = tuple(step.sequences.tolist())
        return Taken(
            self._run.lock_path, leg.name, step.number, leg.stretch.batch, sequences, shuffled, self._run.options
        )

    def _told(self, events: Events, leg: Leg, step: Step[Batch], result: Result, lr: float, seconds: float) -> None:
        """Tell of a step that was taken."""
        stand, built, world = self._stand, self._built, self._world
        cost = flops.step_flops(built.shape, result.tokens, result.attended)
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
            mfu=None if built.peak is None else flops.mfu(cost, seconds, world.size, built.peak),
            memory=world.peak_memory(),
            breakdown=Cells(leg.stream.domains, leg.config.events.positions).table(result.cells.tolist()),
        )
        above, limit = events.write(event), leg.config.events.spike
        if stand.step % leg.config.events.every == 0:
            self._tell(line(event, self._goal))
        if limit is not None and above > limit:
            self._say(spike(event, above, self._made_of(leg, step)))

    def _between(self, before: Stand, *, stop: bool) -> None:
        """Save where that is due, and publish what was saved meanwhile."""
        now = self._stand
        self._checkpoints.poll()
        if stop or due(self._run.config.checkpoints.every, (before.step, before.tokens), (now.step, now.tokens)):
            self._save()

    def _save(self) -> None:
        self._checkpoints.save(self._stand, self._ledger(), self._built.trainee, self._built.optimizer)

    def _end_saves(self) -> None:
        """Wait until no rank writes a checkpoint any more: one that left earlier would take the others' group away."""
        self._checkpoints.finish()
        self._world.wait()

    def _ledger(self) -> Ledger:
        """Return what was trained on so far."""
        at = self._stand
        taken = [
            leg.stretch.sequences if number < at.phase else at.sequences if number == at.phase else 0
            for number, leg in enumerate(self._legs)
        ]
        shuffles = [leg.config.order.of(len(leg.stream)) for leg in self._legs]
        return Ledger.of(self._run.lock, self._run.lock_path, taken, shuffles)

    def _export(self) -> Path:
        """Write the weights in Hugging Face's format, unless they are there."""
        folder = self._run.out / "export"
        weights = full_weights(self._built.trainee)
        if self._world.first:
            export(self._built.trainee, weights, folder)
        self._world.wait()
        return folder


def _line(error: BaseException) -> str:
    """Return the first sentence of what torch says."""
    return " ".join(str(error).split()).partition(". ")[0][:200].rstrip(".")
