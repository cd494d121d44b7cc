"""One batch, watched by its driver: what is wanted of it, what has come, what is in the queue, what to hand over.

wanted {element: {number: tasks}}  ─ results ─▶  (task, record) …        left: what has not come
                                   ─ look after ─▶  sbatch what is neither done nor alive
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixture.engine import Task
from mixture.engine.batch import Batch, Listing, spell, unspell
from mixture.engine.slurm_calls import AwayError, Ended, Queued, QueueFullError
from mixture.engine.slurm_judge import Case, Verdict, held, judge, own_error
from mixture.engine.slurm_script import element_script, logs_of
from mixture.errors import EngineError, StoreError
from mixture.storage import make_folder, remove_folder

if TYPE_CHECKING:
    from mixture.engine.slurm import Slurm

#: How long a file that another node wrote may take to be seen here (NFS keeps listings for up to a minute).
_LAG_SECONDS = 90.0
#: Answers of the controller that may be lost in a row.
_MOST_AWAY = 5


class Part:
    """One batch and what its driver knows of it.

    Args:
        engine: profile, cluster, work directory.
        batch: which.
        wanted: by element and number, the tasks that are asked for; others of the batch do not matter.
        handed: elements that an earlier driver handed over.
    """

    lag = _LAG_SECONDS

    def __init__(
        self, engine: Slurm, batch: Batch, wanted: dict[int, dict[int, list[Task]]], handed: set[int] | None = None
    ) -> None:
        self.batch = batch
        self.left = wanted
        self._engine, self._cluster = engine, engine.cluster
        self._given = engine.profile.of(batch.stage)
        self._logs = logs_of(engine.profile, batch.folder, engine.work)
        self._seen: dict[int, int] = {}
        self._listing = Listing({}, frozenset(), frozenset())
        self._live: set[int] = set()
        #: Elements that are in the queue, or were when they were last seen or handed over.
        self._handed = set(handed or ())
        self._tries: dict[int, int] = {}
        #: How many results an element had when it was handed over.
        self._had: dict[int, int] = {}
        self._ends: dict[str, dict[int, Ended]] = {}
        self._gone: dict[int, float] = {}
        self._job_of: dict[int, tuple[str, int]] = {}
        self._room = 0
        self._away = 0
        self._told: set[str] = set()
        if self._handed:
            self._recall()

    @property
    def live_elements(self) -> int:
        """How many of its elements were in the queue when it was last looked at."""
        return len(self._live)

    def _recall(self) -> None:
        for job, record in self.batch.jobs().items():
            self._job_of |= {element: (job, element - record["offset"]) for element in unspell(record["elements"])}

    def results(self) -> Iterator[tuple[Task, Any]]:
        """Yield what has come since the last look.

        Raises:
            MixtureError: a task ended in an error of its own.
        """
        self._listing = self.batch.listed()
        for element, counts in self._listing.counts.items():
            if element in self.left and max(counts) > self._seen.get(element, 0):
                came = self.batch.results_of(element, max(counts))
                # Nothing if a newer file took its place meanwhile: the next look finds that one.
                self._seen[element] = max(self._seen.get(element, 0), len(came))
                self._tries.pop(element, None)
                yield from self._take(element, came)
        for element in sorted(self._listing.errors & self.left.keys()):
            if told := self.batch.end_of(element, "error"):
                raise own_error(self.batch.stage, told)

    def _take(self, element: int, came: dict[int, Any]) -> Iterator[tuple[Task, Any]]:
        for number in [number for number in came if number in self.left.get(element, {})]:
            for task in self.left[element][number]:
                yield task, came[number]
            del self.left[element][number]
        if element in self.left and not self.left[element]:
            del self.left[element]

    def look_after(self, queue: Sequence[Queued]) -> None:
        """Hand over what is neither done nor alive, if it is worth it.

        Args:
            queue: the stage's jobs, as they were before the results were listed.

        Raises:
            EngineError: an element ended without its results too often, or Slurm takes no jobs.
        """
        from mixture.engine.slurm_attach import alive

        self._live = set(alive(self.batch, queue))
        self._ends = {}
        self._say_why_held(queue)
        self._handed |= self._live
        for element in self._live:
            self._gone.pop(element, None)
        missing = self.left.keys() - self._live
        ended = sorted(missing & self._handed)
        again = [element for element in ended if self._is_to_run_again(element)]
        waiting = sorted((missing - self._handed) | set(again))
        if self._engine.profile.slurm.most_running and self._live:
            # Each array has its own limit: one at a time, but for what has to run again.
            waiting = again
        self._hand_over(waiting)

    def _is_to_run_again(self, element: int) -> bool:
        """Judge an element that has left the queue without its results."""
        since = self._gone.setdefault(element, time.monotonic())
        verdict = self._verdict(element)
        if not verdict.known and time.monotonic() - since < self.lag:
            return False
        self._demand_open()
        # What got on starts anew: `results` forgets its tries.
        tries = self._tries.get(element, 0)
        got_on = self._seen.get(element, 0) > self._had.get(element, 0)
        if not verdict.again or (not got_on and (verdict.spent or tries >= (self._given.retries or 0))):
            often = f"; it was handed over {tries + 1} times" if tries else ""
            raise EngineError(verdict.sentence + often)
        self._engine.say(f"{verdict.sentence}; handing it over again")
        self._tries[element] = tries + 1
        self.batch.forget_end(element)
        return True

    def _demand_open(self) -> None:
        if closed := self.batch.closed():
            raise EngineError(f"{self.batch.stage}: {closed['sentence']}")

    def _verdict(self, element: int) -> Verdict:
        labels = [tasks[0].label for tasks in self.left[element].values()]
        job, index = self._job_of.get(element, ("", 0))
        if job and job not in self._ends:
            self._ends[job] = self._cluster.ended(job)
        ended = self._ends.get(job, {}).get(index, Ended())
        stop = self.batch.end_of(element, "stop") or {}
        return judge(Case(self.batch.stage, self._given, labels, ended, stop, self._logs / f"{job}_{index}.log"))

    def _hand_over(self, elements: Sequence[int]) -> None:
        """Submit elements in arrays as large as profile, cluster and the user's limits allow."""
        if not elements:
            return
        size = min(self._engine.profile.slurm.most_elements, self._cluster.most_elements)
        by_array: dict[int, list[int]] = {}
        for element in elements:
            by_array.setdefault(element // size * size, []).append(element)
        try:
            make_folder(self._logs)
        except StoreError as error:
            raise StoreError(f"{self.batch.stage}: the folder of the jobs' logs (slurm.logs): {error}") from error
        for offset, mine in by_array.items():
            whole = self._submit(mine[: self._room or size], offset)
            if not whole or len(mine) > (self._room or size):
                return  # The rest at the next look.
            if self._engine.profile.slurm.most_running:
                return

    def _submit(self, elements: Sequence[int], offset: int) -> bool:
        stage = self.batch.stage
        self._demand_open()
        text = element_script(self._engine.profile, stage, self.batch.folder, elements, offset)
        try:
            job = self._cluster.submit(text, stage, self._given.partition)
        except QueueFullError as error:
            self._wait_for_room(len(elements), str(error))
            return False
        except AwayError:
            # It may have been taken: the next look at the queue tells.
            self._away += 1
            if self._away >= _MOST_AWAY:
                raise
            return False
        self._away, self._room = 0, 2 * self._room
        self.batch.add_job(job, offset, elements)
        self._handed.update(elements)
        self._live.update(elements)
        for element in elements:
            self._gone.pop(element, None)
            self._had[element] = self._seen.get(element, 0)
            self._job_of[element] = (job, element - offset)
        return True

    def _wait_for_room(self, asked: int, said: str) -> None:
        self._room = max(1, asked // 2)
        if asked == 1 and not self._cluster.queue_of_mine():
            raise EngineError(
                f"{self.batch.stage}: Slurm takes not even one job of yours ({' '.join(said.split())[:200]}); "
                "give another account or QOS in the profile"
            )
        self._say_once(
            "full", f"{self.batch.stage}: your limit of jobs in the queue is reached; more when some have ended"
        )

    def _say_why_held(self, queue: Sequence[Queued]) -> None:
        for line in queue:
            why = held(self.batch.stage, line.reason) if line.state == "PENDING" else ""
            if why:
                self._say_once(line.reason, f"{self.batch.stage}: jobs will not start ({line.reason}): {why}")

    def _say_once(self, about: str, sentence: str) -> None:
        if about not in self._told:
            self._told.add(about)
            self._engine.say(sentence)

    def finish(self) -> None:
        """Remove the batch: everything that was wanted of it has come."""
        unwanted = sorted(self._live - set(self._seen))
        self._cancel(unwanted)
        self.batch.remove()
        if not (isinstance(self.batch.folder, Path) and self._logs.is_relative_to(self.batch.folder.absolute())):
            remove_folder(self._logs)

    def fail(self, sentence: str) -> None:
        """Close the batch and take its jobs out of the queue; why it failed stays for `mixture status`."""
        if self.batch.closed() is None:
            self.batch.close("failed", sentence)
        self._cancel(sorted(self._handed))

    def _cancel(self, elements: Sequence[int]) -> None:
        by_job: dict[str, list[int]] = {}
        for job, index in (self._job_of[element] for element in elements if element in self._job_of):
            by_job.setdefault(job, []).append(index)
        jobs = [f"{job}_[{spell(indices)}]" for job, indices in by_job.items()]
        if jobs:
            self._cluster.cancel(jobs)
