"""Dask distributed: a scheduler that is there, or a cluster that a class of the user's starts.

    engine: dask                                  engine: dask
    dask: {address: "tcp://10.0.0.1:8786"}        dask:
                                                    cluster: dask_jobqueue.SLURMCluster
                                                    options: {cores: 1, memory: 16GB, walltime: "04:00:00"}
                                                    workers: 40

Dask's workers are given cores and memory when they are started; a task cannot ask for them, so of a stage's resources
only `retries` counts here. A worker process runs one of our tasks at a time, whatever its threads.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import queue
from collections.abc import Callable, Collection, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from mixture.engine import Task
from mixture.engine.attempt import in_a_line
from mixture.engine.futures import CARRIED, LostError, Rules, drive
from mixture.errors import EngineError
from mixture.profile import DaskRules, Profile

if TYPE_CHECKING:
    from distributed import Client, Future

#: A scheduler that does not answer for so long is not there.
_CONNECT_SECONDS = 10
#: A scheduler that is asked how many workers it has.
_ASK_SECONDS = 5
#: Loggers that print tracebacks of what we say in a sentence.
_LOUD = ("distributed", "tornado")


class Dask:
    """Runs tasks on a Dask cluster; a context manager that holds the connection, and the cluster if it started one.

    Args:
        profile: where the cluster is, and what its tasks are given.
        say: tells the user one sentence.
    """

    def __init__(self, profile: Profile, say: Callable[[str], None]) -> None:
        self._profile = profile
        self._say = say
        self._stack = contextlib.ExitStack()
        self._client: Client | None = None

    def __enter__(self) -> Self:
        """Connect.

        Raises:
            EngineError: Dask is not installed, the cluster cannot be started, or its scheduler cannot be reached.
        """
        rules = self._profile.dask
        if rules is None:
            raise EngineError("dask: the profile names no cluster; give dask.address or dask.cluster")
        try:
            import distributed  # noqa: F401 - its loggers are there from now on
        except ImportError as error:
            raise EngineError(
                f"engine: dask needs the package distributed ({error}); pip install 'mixture[dask]'"
            ) from error
        with contextlib.ExitStack() as stack:
            stack.enter_context(_quiet())
            self._client = _connect(rules, stack)
            self._stack = stack.pop_all()
        self._say_of_threads()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._client = None
        self._stack.close()

    def run(self, tasks: Sequence[Task], stage: str) -> Iterator[tuple[Task, Any]]:
        """See `Engine.run`.

        Raises:
            EngineError: a task's worker was killed too often, or the scheduler is gone.
        """
        if self._client is None:
            raise EngineError("dask: not connected; use the engine in a with block")
        of = self._profile.of(stage)
        rules = Rules(stage, of.retries or 0, self._say, self._profile.scratch)
        yield from drive(_Stage(self._client, stage), tasks, rules)

    def _say_of_threads(self) -> None:
        """Tell of workers whose further threads would only wait."""
        with contextlib.suppress(Exception):
            threads = self._client.nthreads(callback_timeout=_ASK_SECONDS) if self._client else {}
            if most := max(threads.values(), default=1) - 1:
                self._say(
                    f"dask: a worker process runs one task at a time, and some have {most + 1} threads; "
                    "start workers with --nthreads 1 and more of them (--nworkers) to use all cores"
                )


class _Stage:
    """The tasks of one stage on a Dask cluster; see `futures.Cluster`."""

    more_memory = "give each worker more (--memory-limit, or fewer workers to a node)"

    def __init__(self, client: Client, stage: str) -> None:
        self._client = client
        self._stage = stage
        self._address = str(client.scheduler.address) if client.scheduler else "?"
        self._ended: queue.SimpleQueue[Future] = queue.SimpleQueue()
        self._count = 0
        self._sent = 0
        # Two runs on one scheduler never share a task.
        self._run = os.urandom(6).hex()
        self.no_worker = (
            f"no worker at the Dask scheduler {self._address} yet; start some, as "
            f"`dask worker {self._address} --nworkers 4 --nthreads 1`, or look at what starts them; waiting"
        )

    def slots(self) -> int:
        self._check()
        with contextlib.suppress(TimeoutError, OSError):
            self._count = len(self._client.nthreads(callback_timeout=_ASK_SECONDS) or {})
        return self._count

    def submit(self, text: str, label: str) -> Future:  # noqa: ARG002 - the key tells the stage
        self._check()
        self._sent += 1
        key = f"mixture-{self._stage}-{self._run}-{self._sent}"
        future = self._client.submit(eval, CARRIED, {"text": text}, key=key, pure=False)
        future.add_done_callback(self._ended.put)
        return future

    def done(self, running: Collection[Future], seconds: float) -> list[Future]:
        ended = []
        with contextlib.suppress(queue.Empty):
            ended.append(self._ended.get(timeout=seconds))
            while True:
                ended.append(self._ended.get_nowait())
        if not ended:
            self._check()
        return [future for future in ended if future in running]

    def result(self, handle: Future) -> str:
        from distributed import KilledWorker

        if handle.status == "cancelled":
            raise self._gone()
        try:
            return str(handle.result())
        except KilledWorker as error:
            host = error.last_worker.address
            raise LostError(f"its worker was killed, last {host}", error.allowed_failures + 1) from error
        except Exception as error:
            if handle.status == "cancelled" or self._client.status != "running":
                raise self._gone() from error
            raise EngineError(
                f"{self._stage}: a worker could not run a task: {in_a_line(error)}; look at the workers' logs, "
                "then run the same command again: what is whole is kept"
            ) from error

    def cancel(self, handles: Collection[Future]) -> None:
        if self._client.status == "running":
            with contextlib.suppress(Exception):
                self._client.cancel(list(handles))

    def _check(self) -> None:
        if self._client.status != "running":
            raise self._gone()

    def _gone(self) -> EngineError:
        return EngineError(
            f"{self._stage}: the Dask scheduler at {self._address} is gone, or dropped this driver; start it if need "
            "be, then run the same command again: what is whole is kept"
        )


def _connect(rules: DaskRules, stack: contextlib.ExitStack) -> Client:
    """Return a client of what the profile names; what is opened is closed with the stack."""
    from distributed import Client

    where = rules.address or _start(rules, stack)
    shown = rules.address or rules.cluster
    try:
        client = Client(where, timeout=_CONNECT_SECONDS, set_as_default=False, name="mixture")
    except (OSError, TimeoutError) as error:
        raise EngineError(
            f"dask.address {shown}: no Dask scheduler answers there within {_CONNECT_SECONDS} s; start it with "
            "`dask scheduler`, or mend the address and the network between"
        ) from error
    except Exception as error:
        raise EngineError(f"dask: {shown}: cannot connect: {in_a_line(error)}; mend that, then run again") from error
    stack.callback(_close, client)
    return client


def _close(client: Client) -> None:
    # Of a scheduler that is gone nobody waits for the last word.
    with contextlib.suppress(Exception):
        client.close(timeout=_ASK_SECONDS)


def _start(rules: DaskRules, stack: contextlib.ExitStack) -> Any:
    """Start the cluster that a profile's class makes."""
    module, _, name = str(rules.cluster).rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise EngineError(
            f"dask.cluster {rules.cluster}: no such class here ({error}); install its package, or mend the name"
        ) from error
    try:
        cluster = kind(**rules.options)
        stack.callback(cluster.close)
        if rules.workers:
            cluster.scale(rules.workers)
    except Exception as error:
        raise EngineError(
            f"dask.cluster {rules.cluster}: did not start: {in_a_line(error)}; mend dask.options"
        ) from error
    return cluster


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Dask's tracebacks off the terminal."""
    # Each has a level of its own, so the top one's does not matter.
    known = [logger for logger in logging.root.manager.loggerDict.values() if isinstance(logger, logging.Logger)]
    loggers = [logger for logger in known if logger.name.partition(".")[0] in _LOUD]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
