"""What a run's folder says of its end, and of what was decided on the way there.

    OUT/gates.json   {"decisions": [{"step": 400, "action": "advance", "phase": 0, "sequences": 3200, "reason": "…"}]}
    OUT/end.json     {"step": 900, "tokens": 7372800}        the run has come to its end, and nothing comes after

A decision is written before it is followed. A run that is killed and started again reads it and does the same: a phase
that was left stays left, and a run that was stopped stays so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from mixture.storage import read_record, remove, write_json
from mixture.train.checkpoint import Stand
from mixture.train.run import Leg

END, GATES = "end.json", "gates.json"
Action = Literal["stay", "advance", "stop"]


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


def decisions_of(out: Path, step: int) -> list[Decided]:
    """Return what was decided up to a step; what was decided later is of a course that is taken again.

    Raises:
        StoreError: the record is damaged.
    """
    record = read_record(out / GATES, "decisions") or {"decisions": []}
    found = [Decided(**one) for one in record["decisions"]]
    return [one for one in found if one.step <= step]


def write_decisions(out: Path, decisions: Sequence[Decided]) -> None:
    """Write down what was decided.

    Raises:
        StoreError: the folder cannot be written.
    """
    write_json(out / GATES, {"decisions": [asdict(one) for one in decisions]})


def cut(legs: Sequence[Leg], decisions: Sequence[Decided]) -> tuple[Leg, ...]:
    """Return the legs of a run, those that were left early being as long as they were."""
    out = list(legs)
    for one in decisions:
        if one.action == "advance":
            leg = out[one.phase]
            out[one.phase] = replace(leg, stretch=replace(leg.stretch, sequences=one.sequences))
    return tuple(out)


def ended_at(out: Path) -> int | None:
    """Return the step at which a run came to its end; None where it has not.

    Raises:
        StoreError: the record is damaged.
    """
    record = read_record(out / END, "step")
    return None if record is None else int(record["step"])


def mark_end(out: Path, stand: Stand) -> None:
    """Say that a run has come to its end.

    Raises:
        StoreError: the folder cannot be written.
    """
    write_json(out / END, {"step": stand.step, "tokens": stand.tokens})


def unmark_end(out: Path) -> None:
    """Say that a run goes on."""
    remove(out / END)
