"""This machine: a pool of processes, or the calling process when one worker is asked for.

`ProcessPoolExecutor` reports a killed worker (`multiprocessing.Pool` hangs on one); the tasks that were under way are
then run again in a fresh pool, a few times. Workers are spawned, not forked: the libraries in them own threads.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait as wait_for_end
from types import TracebackType
from typing import Any, Self

from mixture.engine import Task
from mixture.errors import EngineError

#: Ctrl-C is heard at least this often. Polars catches the signal too, in a way that leaves a waiting thread asleep.
_LISTEN_SECONDS = 0.2


class Local:
    """Runs tasks in processes of this machine; a context manager that keeps them warm between stages.

    Args:
        workers: processes; 1 runs everything in the calling process.
        tries: how often a task is run when something outside kills its process.
    """

    def __init__(self, workers: int = 1, tries: int = 3) -> None:
        self.workers = workers
        self.tries = tries
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop()

    def run(self, tasks: Sequence[Task], stage: str = "") -> Iterator[tuple[Task, Any]]:  # noqa: ARG002
        """See `Engine.run`; every stage is the same here."""
        if min(self.workers, len(tasks)) <= 1:
            for task in tasks:
                yield task, task.run()
            return
        # The heaviest first, so that none starts alone at the end.
        left = dict(enumerate(sorted(tasks, key=lambda task: -task.weight)))
        for attempt in range(1, self.tries + 1):
            try:
                for number, record in self._run_in_pool(left):
                    yield left.pop(number), record
            except BrokenProcessPool as error:
                if attempt == self.tries:
                    raise EngineError(_killed(list(left.values()), self.tries)) from error
            else:
                return

    def _run_in_pool(self, tasks: dict[int, Task]) -> Iterator[tuple[int, Any]]:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(self.workers, mp_context=get_context("spawn"), initializer=_start_worker)
        # One task waits for each that runs, no more: an error stops the rest before they start.
        most = 2 * self.workers
        waiting = iter(list(tasks.items()))
        running: dict[Future[Any], int] = {}
        try:
            while True:
                while len(running) < most and (item := next(waiting, None)):
                    with _deaf_to_ctrl_c():
                        running[self._pool.submit(item[1].run)] = item[0]
                if not running:
                    return
                for future in wait(running, _LISTEN_SECONDS, FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
        except BaseException:
            self._stop()
            raise

    def _stop(self) -> None:
        """End the workers now: all that they have not published is written aside, and lost."""
        if self._pool is None:
            return
        for process in list((getattr(self._pool, "_processes", None) or {}).values()):
            process.terminate()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool = None


@contextlib.contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Hold Ctrl-C back for a moment: processes and threads begun in it never hear it, and it reaches us afterwards.

    A worker that is still importing would else answer with a traceback of its own.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and end when the parent ends, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:
        sentinel = parent.sentinel

        def follow() -> None:
            wait_for_end([sentinel])
            os._exit(1)

        threading.Thread(target=follow, daemon=True).start()


def _killed(left: Sequence[Task], tries: int) -> str:
    names = ", ".join(task.label for task in left[:3]) + (", …" if len(left) > 3 else "")
    return (
        f"a worker process was killed {tries} times while {len(left)} tasks were left ({names}), most likely for want "
        "of memory; run again with fewer --workers: what is whole is kept"
    )
