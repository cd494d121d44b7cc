"""The course of a run: its phases and rates, and what examinations decided of them on the way.

    planned    short, 900 steps      long, 100 steps
    advance at step 400
    taken      short, 400 steps      long, 100 steps      rates laid anew over 500 steps

    OUT/gates.json   {"decisions": [{"step": 400, "action": "advance", "phase": 0, "sequences": 3200, "reason": "…"}]}

A decision is written before it is followed. A run that is killed and started again reads it and does the same: a phase
that was left stays left, and a run that was stopped stays so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mixture.errors import ConfigError
from mixture.ledger import Ledger
from mixture.storage import read_record, write_json
from mixture.train.checkpoint import Stand
from mixture.train.examining import Action, Finding
from mixture.train.run import Leg, Run
from mixture.train.schedule import Rates
from mixture.train.world import Say, World

GATES = "gates.json"


@dataclass(frozen=True)
class Decided:
    """A decision that changed a run's course.

    Attributes:
        step: steps that were done.
        action: `advance` to the next phase, or `stop`.
        phase: index of the phase that the run was in.
        sequences: of that phase that were trained on.
        reason: a sentence.
    """

    step: int
    action: Action
    phase: int
    sequences: int
    reason: str


class Course:
    """The course of a run, from where it stands: what was decided before is followed again.

    Args:
        run: the run.
        world: the ranks; each of them has a course, and decides the same.
        say: is told of decisions.
        planned: its phases, as the config has them.
        step: steps that were done; what was decided later is of a course that is taken again.
        anew: go on where it was decided to stop.

    Attributes:
        legs: its phases, those that were left early being as long as they were.
        rates: the learning rate of every step.

    Raises:
        ConfigError: a schedule does not fit into what is left.
        StoreError: the record of decisions is damaged.
    """

    def __init__(
        self, run: Run, world: World, say: Say, planned: Sequence[Leg], *, step: int, anew: bool = False
    ) -> None:
        self._run, self._world, self._say = run, world, say
        found = [one for one in _read(run.out) if one.step <= step]
        self._waived = [one for one in found if anew and one.action == "stop"]
        self._decided = [one for one in found if one not in self._waived]
        for one in self._decided:
            say(f"step {one.step:,}: {one.action}, as was decided there: {one.reason}")
        self.legs = cut(planned, self._decided)
        self.rates = self._laid(self.legs)

    @property
    def gate(self) -> str:
        """Why an examination ended the run; empty where none did."""
        return next((one.reason for one in self._decided if one.action == "stop"), "")

    def waive(self) -> None:
        """Strike from the record what is not followed any more."""
        if self._waived:
            self._write()

    def decide(self, found: Finding, stand: Stand) -> None:
        """Follow what an examination came to, unless it was decided before, or a schedule would not fit any more.

        Args:
            found: the same on all ranks.
            stand: where the run stood.

        Raises:
            StoreError: the decision cannot be written down.
        """
        before = {(one.step, one.action) for one in (*self._decided, *self._waived)}
        if found.action == "stay" or (stand.step, found.action) in before:
            return
        one = Decided(stand.step, found.action, stand.phase, stand.sequences, found.reason)
        legs = cut(self.legs, [one])
        try:
            rates = self._laid(legs)
        except ConfigError as error:
            self._say(f"step {one.step:,}: {one.action} is not possible: {error}")
            return
        self._decided.append(one)
        self._write()
        self._world.wait()
        self._say(f"step {one.step:,}: {one.action}: {one.reason}")
        self.legs, self.rates = legs, rates

    def ledger(self, stand: Stand) -> Ledger:
        """Return what was trained on up to a place of the course."""
        taken = [
            leg.stretch.sequences if number < stand.phase else stand.sequences if number == stand.phase else 0
            for number, leg in enumerate(self.legs)
        ]
        shuffles = [leg.config.order.of(len(leg.stream)) for leg in self.legs]
        return Ledger.of(self._run.lock, self._run.lock_path, taken, shuffles)

    def _laid(self, legs: Sequence[Leg]) -> Rates:
        return Rates.of(self._run.config, [leg.stretch for leg in legs])

    def _write(self) -> None:
        if self._world.first:
            write_json(self._run.out / GATES, {"decisions": [asdict(one) for one in self._decided]})


def cut(legs: Sequence[Leg], decisions: Sequence[Decided]) -> tuple[Leg, ...]:
    """Return the legs of a run, those that were left early being as long as they were."""
    out = list(legs)
    for one in decisions:
        if one.action == "advance":
            leg = out[one.phase]
            out[one.phase] = replace(leg, stretch=replace(leg.stretch, sequences=one.sequences))
    return tuple(out)


def _read(out: Path) -> list[Decided]:
    record = read_record(out / GATES, "decisions") or {"decisions": []}
    return [Decided(**one) for one in record["decisions"]]
