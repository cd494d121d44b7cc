"""What a work directory's jobs are doing, read from storage and from Slurm's queue; and how they are ended.

    status(work) ─▶ {"work": …, "driver": None, "batches": [{"stage": "pack", "tasks": 40, "done": 31,
                     "jobs": {"running": 4, "waiting": 2}, "failures": []}]}

Where Slurm's commands are missing, or its controller is away, what storage says is still told.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from mixture.engine.batch import Batch, batches
from mixture.engine.slurm_attach import alive, spelled
from mixture.engine.slurm_calls import Queued, Slurmctl
from mixture.engine.slurm_detach import ENDED, in_turn, note, read_driver
from mixture.engine.slurm_judge import held
from mixture.engine.slurm_script import job_name
from mixture.errors import EngineError
from mixture.profile import PLACES
from mixture.storage import Place

_MOST_FAILURES = 20
_ROUNDS = 5


def names(work: Place) -> list[str]:
    """Return the names that the jobs of a work directory may have."""
    return [job_name(work, stage) for stage in PLACES]


def status(work: Place, say: Callable[[str], None], *, patience: float = 5.0) -> dict[str, Any]:
    """Tell what the jobs of a work directory are doing.

    Args:
        work: the work directory.
        say: tells the user one sentence.
        patience: seconds for which a controller that is away is asked again.
    """
    queue: list[Queued] | None = None
    unknown = ""
    try:
        queue = Slurmctl(say, patience).queue(names(work))
    except EngineError as error:
        unknown = str(error)
    told = {"work": str(work), "queue_unknown": unknown, "driver": _driver(work, queue)}
    return told | {"batches": [_batch(batch, queue) for batch in batches(work)]}


def _driver(work: Place, queue: Sequence[Queued] | None) -> dict[str, Any] | None:
    driver = read_driver(work)
    if driver is None:
        return None
    mine = in_turn([line for line in queue or () if line.name == job_name(work, "driver")])
    if queue is not None and not mine and driver["state"] not in ENDED:
        driver |= {"state": "lost", "sentence": "no job drives it any more; run the same command again to go on"}
    about = {name: driver[name] for name in ("state", "folder", "link", "node", "log", "sentence")}
    return {"command": " ".join(["mixture", *driver["command"]])} | about | {"jobs": [line.job for line in mine]}


def _batch(batch: Batch, queue: Sequence[Queued] | None) -> dict[str, Any]:
    listing = batch.listed()
    # What is completing has published all that it will.
    mine = [line for line in queue or () if set(alive(batch, [line])) and not line.state.startswith("COMPLET")]
    states: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for line in mine:
        waits = line.state == "PENDING"
        states["waiting" if waits else "running"] += len(line.indices)
        if waits:
            reasons[line.reason] += len(line.indices)
    closed = batch.closed() or {"state": "open", "sentence": ""}
    ends = [(element, "error") for element in sorted(listing.errors)]
    ends += [(element, "stop") for element in sorted(listing.stops - listing.errors)]
    return {
        "batch": batch.name,
        "stage": batch.stage,
        "state": closed["state"],
        "sentence": closed["sentence"],
        "tasks": batch.tasks,
        "done": sum(max(counts) for counts in listing.counts.values()),
        "elements": batch.elements,
        "jobs": {name: states[name] for name in ("running", "waiting")} if queue is not None else None,
        "nodes": sorted({line.node for line in mine if line.node}),
        "reasons": {reason: {"jobs": n, "means": held(batch.stage, reason)} for reason, n in sorted(reasons.items())},
        "failed": len(listing.errors),
        "failures": [_failure(batch, *end) for end in ends[:_MOST_FAILURES]],
    }


def _failure(batch: Batch, element: int, kind: str) -> dict[str, Any]:
    found = batch.end_of(element, kind) or {"sentence": "gone meanwhile"}
    return {"element": element, "final": kind == "error"} | {k: v for k, v in found.items() if k != "own"}


def cancel(work: Place, say: Callable[[str], None]) -> dict[str, Any]:
    """Take all jobs of a work directory out of Slurm's queue; what is whole is kept.

    Returns:
        How many jobs there were, and how many are still ending.

    Raises:
        EngineError: Slurm does not answer, or its commands are not here.
    """
    cluster = Slurmctl(say)
    queue = cluster.queue(names(work))
    sentence = "ended by `mixture cancel`; what is whole is kept: run the same command to go on"
    # First the record, so that no driver hands anything over again.
    driver = read_driver(work)
    if driver is not None and driver["state"] not in ENDED:
        note(work, driver, state="cancelled", sentence=sentence)
    for batch in batches(work):
        if batch.closed() is None:
            batch.close("cancelled", sentence)
    count = sum(max(1, len(line.indices)) for line in queue)
    for _ in range(_ROUNDS):
        # A driver may have handed over one more meanwhile.
        if not (left := [line for line in queue if line.state != "COMPLETING"]):
            break
        cluster.cancel([spelled(line) for line in left])
        time.sleep(0.3)
        queue = cluster.queue(names(work))
    return {"work": str(work), "cancelled": count, "ending": sum(max(1, len(line.indices)) for line in queue)}
