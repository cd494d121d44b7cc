"""Slurm: the tasks of a stage as job arrays, judged by what they leave on storage.

    run(tasks, "pack")  ─▶  work/jobs/pack-…/          what was asked (see `batch`)
                        ─▶  sbatch --array=0-99        elements that have no result
                        ◀─  results/00012-0003.json    records, yielded as they come

A driver holds nothing that is not on storage. One that dies leaves its jobs running; the next one finds its batches,
takes over what is alive and hands over the rest. An element that left the queue without its results is handed
over again: for ever while it gets on, else as often as the profile's `retries`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

from mixture.engine import Task
from mixture.engine.batch import batches, folders, open_batch, read_batch
from mixture.engine.slurm_attach import adopt, leftovers
from mixture.engine.slurm_calls import Slurmctl
from mixture.engine.slurm_part import Part
from mixture.engine.slurm_script import job_name, script
from mixture.errors import MixtureError
from mixture.profile import Profile
from mixture.storage import Place, remove_folder

__all__ = ["Slurm", "script"]

#: Seconds between two looks at queue and storage: short at first and when something ended, else longer and longer.
_SHORTEST, _USUAL, _LONGEST = 0.2, 1.0, 10.0


class Slurm:
    """Runs tasks as Slurm jobs; a context manager.

    Ctrl-C ends the driver, not the jobs: the same command finds them again.

    Args:
        profile: resources, set-up, rules.
        work: the work directory, which nodes see by the same name.
        say: tells the user one sentence.
    """

    def __init__(self, profile: Profile, work: Place, say: Callable[[str], None]) -> None:
        self.profile = profile
        self.work = work
        self.say = say
        self.cluster = Slurmctl(say)
        self._parts: list[Part] = []
        #: Batches whose results have all come: their jobs are about to end by themselves.
        self._whole: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        parts, self._parts = self._parts, []
        if not parts:
            return
        if kind is not None and issubclass(kind, MixtureError):
            for part in parts:
                part.fail(str(error))
        elif kind is not None and (live := sum(part.live_elements for part in parts)):
            self.say(
                f"{live} jobs stay in Slurm's queue: `mixture status` shows them, `mixture cancel` ends them, and the "
                "same command goes on with them"
            )

    def run(self, tasks: Sequence[Task], stage: str) -> Iterator[tuple[Task, Any]]:
        """See `Engine.run`."""
        if not tasks:
            return
        self._parts = self._open(tasks, stage)
        pause = _SHORTEST
        try:
            while self._parts:
                # The queue first: who has left it has published all that it will.
                queue = self.cluster.queue([job_name(self.work, stage)])
                news = False
                for part in self._parts:
                    for found in part.results():
                        news = True
                        yield found
                for part in self._parts:
                    part.look_after(queue)
                self._end_whole()
                pause = _USUAL if news else min(1.3 * pause, _LONGEST)
                if self._parts:
                    time.sleep(pause)
        except MixtureError as error:
            for part in self._parts:
                part.fail(str(error))
            self._parts = []
            raise

    def _open(self, tasks: Sequence[Task], stage: str) -> list[Part]:
        """Take over what earlier drivers left of the same tasks, and write down the rest."""
        queue = self.cluster.queue([job_name(self.work, stage)])
        earlier = [batch for batch in batches(self.work) if batch.stage == stage]
        parts, rest = adopt(self, earlier, tasks, queue)
        kept = {part.batch.name for part in parts}
        # Their jobs first: nobody asks for what they make.
        self.cluster.cancel(leftovers(queue, kept | self._whole))
        for batch in earlier:
            if batch.name not in kept:
                batch.remove()
        for folder in stray(self.work, stage):
            remove_folder(folder)
        if parts:
            self.say(
                f"{stage}: goes on with the jobs of an earlier run, which hold {len(tasks) - len(rest)} of the tasks"
            )
        if rest:
            per_job = self.profile.of(stage).tasks_per_job or 1
            batch = open_batch(self.work, stage, rest, per_job)
            wanted = {e: {n: [rest[n]] for n in numbers} for e, numbers in batch.every_task()}
            parts.append(Part(self, batch, wanted))
        return parts

    def _end_whole(self) -> None:
        for part in [part for part in self._parts if not part.left]:
            part.finish()
            self._whole.add(part.batch.name)
            self._parts.remove(part)


def stray(work: Place, stage: str) -> list[Place]:
    """List the folders of batches that were removed while a job still wrote there."""
    return [f for f in folders(work) if f.name.startswith(f"{stage}-") and read_batch(f) is None]
