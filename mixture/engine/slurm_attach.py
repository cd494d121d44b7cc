"""What a new driver takes over from those before it.

A stage that died half-way asks for fewer tasks, cut together in another way, so batches are not compared: tasks are.
What an earlier batch has alive in the queue is taken over; everything else that is wanted goes into a new batch.

    wanted b c d        an open batch: a done, b running, c lost, x running
    ─▶ taken over: b           new batch: c, d        x goes on beside b if they share a job, else it is cancelled

A record from before is not believed: what the stage keeps it does not ask for again, so what it asks for is not there
any more, or was only there for the driver that died. For the same reason nothing of `plan` is taken over: its tasks
write for one another, and a new driver begins by sweeping that away.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mixture.engine import Task
from mixture.engine.batch import Batch, key, spell
from mixture.engine.slurm_calls import Queued
from mixture.engine.slurm_part import Part

if TYPE_CHECKING:
    from mixture.engine.slurm import Slurm


def adopt(
    engine: Slurm, earlier: Sequence[Batch], tasks: Sequence[Task], queue: Sequence[Queued]
) -> tuple[list[Part], list[Task]]:
    """Take over what earlier batches have alive; return that, and the tasks that nobody has.

    Args:
        engine: whose parts they become.
        earlier: batches of the stage.
        tasks: what is wanted.
        queue: the stage's jobs.
    """
    wanted: dict[str, list[Task]] = {}
    for task in tasks:
        wanted.setdefault(key(task), []).append(task)
    parts = []
    for batch in earlier:
        live = set(alive(batch, queue))
        if not live or batch.stage == "plan" or batch.closed():
            continue
        taken: dict[int, dict[int, list[Task]]] = {}
        counts = batch.listed().counts
        for element, theirs in batch.every_task():
            if element not in live:
                continue
            done = batch.results_of(element, max(counts[element])) if element in counts else {}
            for number, task in theirs.items():
                if number not in done and (mine := wanted.pop(key(task), None)):
                    taken.setdefault(element, {})[number] = mine
        if taken:
            parts.append(Part(engine, batch, taken, handed=live))
    return parts, [task for mine in wanted.values() for task in mine]


def alive(batch: Batch, queue: Sequence[Queued]) -> Iterator[int]:
    """Yield the elements of a batch that are in the queue."""
    for line in queue:
        word, _, rest = line.comment.partition(":")
        name, _, offset = rest.rpartition(":")
        if word == "mixture" and name == batch.name and offset.isdecimal():
            for index in line.indices:
                yield int(offset) + index


def leftovers(queue: Sequence[Queued], kept: set[str]) -> list[str]:
    """Return the jobs in the queue that are of none of these batches, as scancel wants them."""
    return [spelled(line) for line in queue if line.comment.split(":")[1:2] not in [[name] for name in kept]]


def spelled(line: Queued) -> str:
    """Spell a line of the queue as scancel wants it: `17_[0-3,7]`."""
    return f"{line.job}_[{spell(line.indices)}]" if line.indices else line.job
