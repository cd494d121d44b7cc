"""What a job of a cluster runs: one element of a batch, its tasks that have no record yet.

    python -P -m mixture.engine.element WORK/jobs/pack-3f9a01c2-77d1 12 2

runs what is left of element 12, as many tasks at once as the job has cores, and publishes their records as they end.
The last argument says how often it will be run again if it dies. It ends with a code of `slurm_script`.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from mixture.engine import Task
from mixture.engine.attempt import node
from mixture.engine.batch import Batch, read_batch
from mixture.engine.local import Local
from mixture.engine.slurm_script import FAILED, MARK, NO_FOLDER, STOPPED
from mixture.errors import EngineError, MixtureError
from mixture.storage import as_place

_TAIL_LINES = 20
_TAIL_BYTES = 4096
#: An element of very many small tasks publishes at most this often.
_PUBLISH_SECONDS = 1.0
_ALWAYS = 64
_AGAIN = 1


class _Stopped(BaseException):
    """SIGTERM: the time limit, scancel, or a node that is wanted for something else."""


def run_element(batch: Batch, element: int, again: int) -> int:
    """Run what is left of an element.

    Args:
        batch: whose.
        element: which.
        again: how often it will be run again if it dies.

    Returns:
        The exit code.
    """
    from mixture import __version__

    if batch.version != __version__:
        words = f"has mixture {__version__} for {sys.executable}, but the run was begun with {batch.version}"
        move = "install the same version there (python:, setup: of the profile)"
        batch.write_end(element, "error", facts("EngineError", f"node {node()} {words}; {move}"))
        return FAILED
    writer = _Writer(batch, element)
    tasks = {number: task for number, task in batch.tasks_of(element).items() if number not in writer.results}
    wrapped = {number: _wrapped(task) for number, task in tasks.items()}
    numbers = {id(task): number for number, task in wrapped.items()}
    try:
        with Local(int(os.environ.get("SLURM_CPUS_PER_TASK") or 1), tries=1) as engine:
            for task, outcome in engine.run(list(wrapped.values())):
                if "error" in outcome:
                    return _fail(batch, element, task.label, outcome, again)
                writer.add(numbers[id(task)], outcome["record"])
    except EngineError:
        labels = [task.label for number, task in tasks.items() if number not in writer.results]
        batch.write_end(element, "stop", facts("killed", "a worker process was killed", labels))
        return _AGAIN
    except _Stopped:
        labels = [task.label for number, task in tasks.items() if number not in writer.results]
        batch.write_end(element, "stop", facts("stopped", "it was told to stop (SIGTERM)", labels))
        return STOPPED
    finally:
        writer.publish()
    return 0


def _wrapped(task: Task) -> Task:
    arguments = {"function": task.function, "arguments": task.arguments, "label": task.label}
    return Task("mixture.engine.attempt:attempt", arguments, task.weight, task.label)


def _fail(batch: Batch, element: int, label: str, outcome: dict[str, Any], again: int) -> int:
    """Record a task's error; one that is not of its data may pass."""
    final = outcome["final"] or again == 0
    told = facts(outcome["error"], outcome["sentence"], [label]) | {"own": outcome["own"]}
    if outcome["trace"]:
        print(outcome["trace"], file=sys.stderr, flush=True)  # noqa: T201 - the job's log
        told["tail"] = outcome["trace"].rstrip().splitlines()[-_TAIL_LINES:]
    batch.write_end(element, "error" if final else "stop", told)
    return FAILED if final else _AGAIN


class _Writer:
    """Publishes the records of an element as its tasks end."""

    def __init__(self, batch: Batch, element: int) -> None:
        self._batch, self._element = batch, element
        self.results = batch.latest(element)
        self._published = len(self.results)
        self._last = 0.0

    def add(self, number: int, record: Any) -> None:
        self.results[number] = record
        if len(self.results) <= _ALWAYS or time.monotonic() - self._last > _PUBLISH_SECONDS:
            self.publish()

    def publish(self) -> None:
        if len(self.results) > self._published:
            self._batch.write_results(self._element, self.results, self._published)
            self._published, self._last = len(self.results), time.monotonic()


def facts(error: str, sentence: str, tasks: list[str] | None = None) -> dict[str, Any]:
    """Return what is recorded of an element's end: what, where, which tasks, and the end of the job's log."""
    log = os.environ.get("MIXTURE_LOG", "")
    job = os.environ.get("SLURM_ARRAY_JOB_ID") or os.environ.get("SLURM_JOB_ID", "")
    about = {"error": error, "sentence": sentence, "tasks": (tasks or [])[:8], "node": node(), "job": job, "log": log}
    return about | {"tail": tail(Path(log)) if log else []}


def tail(log: Path) -> list[str]:
    """Return the last lines of a log; none if it cannot be read."""
    try:
        with log.open("rb") as handle:
            handle.seek(max(0, handle.seek(0, os.SEEK_END) - _TAIL_BYTES))
            lines = handle.read().decode(errors="replace").splitlines()
    except OSError:
        return []
    return lines[-_TAIL_LINES:]


def _stop(_number: int, _frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _Stopped


def main(arguments: list[str]) -> int:
    """Run an element: folder of the batch, number of the element, how often it will be run again."""
    signal.signal(signal.SIGTERM, _stop)
    element, again = int(arguments[1]), int(arguments[2])
    try:
        folder = as_place(arguments[0])
        batch = read_batch(folder)
        if batch is None:
            say = f"node {node()} does not see {folder}; give a work directory that every node shares"
            print(MARK + say, flush=True)  # noqa: T201 - the job's log
            return NO_FOLDER
        return 0 if batch.closed() else run_element(batch, element, again)
    except _Stopped:
        return STOPPED
    except MixtureError as error:
        # The folder itself cannot be read or written: there is nowhere to record it but the log.
        print(f"{MARK}node {node()}: {error}", flush=True)  # noqa: T201 - the job's log
        return _AGAIN


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
