"""The folder of a batch: the tasks of one stage that are handed to a cluster, and what comes back.

    work/jobs/pack-3f9a01c2-77d1/
        batch.json                 stage, tasks, elements, who made it; without it the folder is nobody's
        tasks/00000.json           the tasks of elements 0 … 124, and so on
        jobs/4711.json             which elements were handed over as job 4711
        results/00012-0003.json    element 12 has ended 3 of its tasks: their records, by the task's number
        results/00012-error.json   … a task of it ended in an error that running it again does not mend
        results/00012-stop.json    … something outside ended it; why, where, and the end of its log
        closed.json                failed or cancelled: kept for `mixture status` until the stage runs again

An *element* is the tasks that one job runs. Ten tasks of which two run in a job are five elements; the heaviest are
dealt out first, so that no job gets them all:

    >>> deal([1, 9, 5, 5], 2)
    [[1, 3], [2, 0]]

A reader lists `results` once and opens what is new; a writer publishes all that its element has ended under a new name,
then takes the old one away. So a million tasks are not a million files, and whoever dies leaves a whole file behind.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from mixture.engine import Task
from mixture.hashing import fingerprint
from mixture.storage import Place, each, files_in, read_record, refusals, remove, remove_folder, write_json

#: Tasks in one file of tasks, about: an element reads one such file.
_BLOCK_TASKS = 1000


def deal(weights: Sequence[int], per_element: int) -> list[list[int]]:
    """Deal tasks, by number, to as few elements as hold them: heaviest first, one to each in turn.

    Tasks of one weight, of which the last may be lighter, stay in their order: shards that follow each other read the
    same stretches of the store, and a node that makes them fetches those once.
    """
    count = len(weights)
    elements = -(-count // per_element)
    if len(set(weights[:-1])) <= 1 and weights[-1] <= weights[0]:
        edges = [count * number // elements for number in range(elements + 1)]
        return [list(range(first, stop)) for first, stop in pairwise(edges)]
    order = sorted(range(count), key=lambda number: -weights[number])
    return [order[first::elements] for first in range(elements)]


def key(task: Task) -> str:
    """Return 32 hex digits that name what a task does, whatever it is called."""
    return fingerprint([task.function, task.arguments])


def jobs_folder(work: Place) -> Place:
    """Return the folder of a work directory's batches."""
    return work / "jobs"


def work_digest(work: Place) -> str:
    """Return 8 hex digits that name a work directory: they are in the name of each of its jobs."""
    return fingerprint(str(work.absolute() if isinstance(work, Path) else work).rstrip("/"))[:8]


@dataclass(frozen=True)
class Batch:
    """A batch that was opened.

    Attributes:
        folder: its folder.
        stage: whose tasks they are.
        tasks: how many.
        per_element: how many of them one element has at most.
        version: of mixture that made it; an element refuses to run under another.
    """

    folder: Place
    stage: str
    tasks: int
    per_element: int
    version: str

    @property
    def name(self) -> str:
        """What jobs call it."""
        return str(self.folder.name)

    @property
    def elements(self) -> int:
        """How many elements it has."""
        return -(-self.tasks // self.per_element)

    @property
    def per_block(self) -> int:
        """How many elements share a file of tasks."""
        return max(1, _BLOCK_TASKS // self.per_element)

    def tasks_of(self, element: int) -> dict[int, Task]:
        """Read the tasks of an element, by their numbers."""
        return _tasks(self._block(element // self.per_block)[element % self.per_block])

    def every_task(self) -> Iterator[tuple[int, dict[int, Task]]]:
        """Read all tasks: each element and its tasks by their numbers."""
        element = 0
        for block in range(-(-self.elements // self.per_block)):
            for text in self._block(block):
                yield element, _tasks(text)
                element += 1

    def _block(self, block: int) -> list[str]:
        record = read_record(self.folder / "tasks" / f"{block:05}.json", "elements") or {"elements": []}
        return list(record["elements"])

    def add_job(self, job: str, offset: int, elements: Sequence[int]) -> None:
        """Note that elements were handed over as a job whose array counts from `offset`."""
        write_json(self.folder / "jobs" / f"{job}.json", {"job": job, "offset": offset, "elements": spell(elements)})

    def jobs(self) -> dict[str, dict[str, Any]]:
        """Read what was handed over, oldest job first."""
        folder = self.folder / "jobs"
        names = sorted((n for n in files_in(folder) if n.endswith(".json")), key=lambda n: (len(n), n))
        found = each(lambda name: read_record(folder / name, "job", "offset", "elements"), names, folder)
        return {record["job"]: record for record in found if record}

    def write_results(self, element: int, results: dict[int, Any], replaces: int) -> None:
        """Publish the records of all tasks that an element has ended.

        Args:
            element: its number.
            results: records by the tasks' numbers.
            replaces: how many of them the file before this one held; it is taken away.
        """
        folder = self.folder / "results"
        name = f"{element:05}-{len(results):04}.json"
        write_json(folder / name, {"results": {str(number): results[number] for number in sorted(results)}})
        if 0 < replaces < len(results):
            remove(folder / f"{element:05}-{replaces:04}.json")

    def results_of(self, element: int, count: int) -> dict[int, Any]:
        """Read what an element had ended when it had ended `count` tasks; empty if that file is gone."""
        record = read_record(self.folder / "results" / f"{element:05}-{count:04}.json", "results") or {"results": {}}
        return {int(number): value for number, value in record["results"].items()}

    def latest(self, element: int) -> dict[int, Any]:
        """Read all that an element has ended."""
        counts = self.listed().counts.get(element)
        return self.results_of(element, max(counts)) if counts else {}

    def write_end(self, element: int, kind: str, facts: dict[str, Any]) -> None:
        """Publish why an element ended before its tasks: `error` if running it again does not help, else `stop`."""
        write_json(self.folder / "results" / f"{element:05}-{kind}.json", facts)

    def end_of(self, element: int, kind: str) -> dict[str, Any] | None:
        """Read why an element ended, or return None if it did not say."""
        return read_record(self.folder / "results" / f"{element:05}-{kind}.json", "sentence")

    def forget_end(self, element: int) -> None:
        """Take away why an element ended, before it is run again."""
        for kind in ("error", "stop"):
            remove(self.folder / "results" / f"{element:05}-{kind}.json")

    def listed(self) -> Listing:
        """List what elements have published; one listing, no file is opened."""
        counts: dict[int, list[int]] = {}
        ends: dict[str, set[int]] = {"error": set(), "stop": set()}
        for name in files_in(self.folder / "results"):
            element, _, what = name.removesuffix(".json").partition("-")
            if not element.isdecimal() or not name.endswith(".json"):
                continue
            if what.isdecimal():
                counts.setdefault(int(element), []).append(int(what))
            elif what in ends:
                ends[what].add(int(element))
        return Listing(counts, frozenset(ends["error"]), frozenset(ends["stop"]))

    def close(self, state: str, sentence: str) -> None:
        """Say that nobody waits for this batch any more, and why."""
        write_json(self.folder / "closed.json", {"state": state, "sentence": sentence})

    def closed(self) -> dict[str, Any] | None:
        """Read why nobody waits for it any more, or return None if it is open."""
        return read_record(self.folder / "closed.json", "state", "sentence")

    def remove(self) -> None:
        """Remove the folder."""
        remove(self.folder / "batch.json")
        remove_folder(self.folder)


def _tasks(text: str) -> dict[int, Task]:
    return {int(number): Task(**task) for number, task in json.loads(text).items()}


@dataclass(frozen=True)
class Listing:
    """What a batch's elements have published.

    Attributes:
        counts: by element, the numbers of ended tasks of which there is a file.
        errors: elements that ended in an error of their own.
        stops: elements that something outside ended.
    """

    counts: dict[int, list[int]]
    errors: frozenset[int]
    stops: frozenset[int]


def open_batch(work: Place, stage: str, tasks: Sequence[Task], per_element: int) -> Batch:
    """Write a batch down: its tasks first, then the record that makes it one.

    Args:
        work: the work directory.
        stage: whose tasks they are.
        tasks: at least one.
        per_element: tasks of one element.
    """
    from mixture import __version__

    # An element of an earlier batch of the same tasks may still be writing: this one has a name of its own.
    name = f"{stage}-{os.urandom(6).hex()}"
    batch = Batch(jobs_folder(work) / name, stage, len(tasks), min(per_element, len(tasks)), __version__)
    dealt = deal([task.weight for task in tasks], batch.per_element)
    size = batch.per_block
    for first in range(0, len(dealt), size):
        # As text: nothing is to be looked at before its element runs, and a million tasks are read and written quickly.
        block = [json.dumps({number: vars(tasks[number]) for number in mine}) for mine in dealt[first : first + size]]
        write_json(batch.folder / "tasks" / f"{first // size:05}.json", {"elements": block})
    about = {"stage": stage, "tasks": batch.tasks, "per_element": batch.per_element, "version": batch.version}
    write_json(batch.folder / "batch.json", about)
    return batch


def read_batch(folder: Place) -> Batch | None:
    """Read a batch, or return None where there is none."""
    record = read_record(folder / "batch.json", "stage", "tasks", "per_element", "version")
    if record is None:
        return None
    return Batch(folder, record["stage"], record["tasks"], record["per_element"], record["version"])


def folders(work: Place) -> list[Place]:
    """List the folders under a work directory's jobs, by name."""
    top = jobs_folder(work)
    if isinstance(top, Path):
        return sorted(path for path in top.iterdir() if path.is_dir()) if top.is_dir() else []
    with refusals(top):
        try:
            found = top.fs.ls(top.path, detail=True)
        except FileNotFoundError:
            return []
    names = {entry["name"].rstrip("/").rpartition("/")[2] for entry in found if entry["type"] == "directory"}
    return [top / name for name in sorted(names)]


def batches(work: Place) -> list[Batch]:
    """Read all batches of a work directory, by name."""
    top = jobs_folder(work)
    return [batch for batch in each(read_batch, folders(work), top) if batch]


def spell(numbers: Sequence[int]) -> str:
    """Spell numbers as Slurm does: `0-3,7`."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def unspell(text: str) -> list[int]:
    """Read numbers that Slurm or `spell` wrote: `0-3,7`, `[1-9:2%4]`; what is no number is nothing."""
    out: list[int] = []
    for piece in text.strip("[]").partition("%")[0].split(","):
        whole, _, step = piece.partition(":")
        first, _, last = whole.partition("-")
        if first.isdecimal() and (last or first).isdecimal() and (step or "1").isdecimal():
            out += range(int(first), int(last or first) + 1, int(step or 1))
    return out
