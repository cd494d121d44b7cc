"""Ray: a cluster that is there.

    engine: ray
    ray: {address: auto}          # or 10.0.0.1:6379 on a node of the cluster, or ray://10.0.0.1:10001 from elsewhere
    resources: {cpus: 2, memory: 8G}

A task is one Ray task: it takes `cpus` cores and `memory` of a node while it runs. A stage's tasks are run again by
this driver, not by Ray, so that `retries` bounds every kind of loss: a killed process, a node, want of memory.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from mixture.engine import Task
from mixture.engine.attempt import in_a_line
from mixture.engine.futures import CARRIED, LostError, Rules, drive
from mixture.errors import EngineError
from mixture.profile import Profile, Resources

if TYPE_CHECKING:
    from ray import ObjectRef

#: A cluster that does not answer for so long is not there.
_CONNECT_SECONDS = 10
#: How often it is looked whether the head is still there, and how long it may be away. Ray itself would end this
#: process after a minute, without a word of ours.
_LOOK_SECONDS = 5.0
_AWAY_SECONDS = 20.0
#: Where Ray listens for drivers, if an address does not say.
_PORTS = {"ray": 10001, "": 6379}


class Ray:
    """Runs tasks on a Ray cluster; a context manager that holds the connection.

    Args:
        profile: where the cluster is, and what its tasks are given.
        say: tells the user one sentence.
    """

    def __init__(self, profile: Profile, say: Callable[[str], None]) -> None:
        self._profile = profile
        self._say = say
        self._stack = contextlib.ExitStack()
        self._head: tuple[str, int] | None = None

    def __enter__(self) -> Self:
        """Connect.

        Raises:
            EngineError: Ray is not installed, or its cluster cannot be reached.
        """
        address = self._profile.ray.address
        try:
            import ray
        except ImportError as error:
            raise EngineError(f"engine: ray needs the package ray ({error}); pip install 'mixture[ray]'") from error
        if not ray.is_initialized():
            # What `auto` means is first what Ray's own variable says.
            self._head = _endpoint(os.environ.get("RAY_ADDRESS", address) if address == "auto" else address)
            if self._head and not _answers(self._head, _CONNECT_SECONDS):
                raise EngineError(
                    f"ray.address {address}: nothing answers at {self._head[0]}:{self._head[1]} within "
                    f"{_CONNECT_SECONDS} s; start it with `ray start --head`, or mend the address or the network"
                )
            with contextlib.ExitStack() as stack:
                # Quiet to the last: what is reported while we leave would go to stdout, too.
                stack.enter_context(_quiet(ray))
                _connect(ray, address)
                stack.callback(_leave, ray)
                self._stack = stack.pop_all()
        if not address.startswith("ray://"):
            self._head = _endpoint(ray.get_runtime_context().gcs_address)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def run(self, tasks: Sequence[Task], stage: str) -> Iterator[tuple[Task, Any]]:
        """See `Engine.run`.

        Raises:
            EngineError: what ran a task was killed too often, or the cluster is gone.
        """
        of = self._profile.of(stage)
        rules = Rules(stage, of.retries or 0, self._say, self._profile.scratch)
        yield from drive(_Stage(stage, of, self._head), tasks, rules)


class _Stage:
    """The tasks of one stage on a Ray cluster; see `futures.Cluster`."""

    more_memory = "ask for more in the profile (resources.memory), so that fewer run on a node at once"

    def __init__(self, stage: str, of: Resources, head: tuple[str, int] | None) -> None:
        import ray

        self._ray = ray
        self._stage = stage
        self._head = head
        self._looked = self._heard = time.monotonic()
        self._count = 0
        self._needs = {"CPU": float(of.cpus or 1)} | ({"memory": float(of.memory)} if of.memory else {})
        memory = f" and {round(of.memory / (1 << 30), 1):g}G of memory" if of.memory else ""
        self.no_worker = (
            f"no node of the Ray cluster has {of.cpus or 1} cpus{memory} for a task yet; start one with "
            "`ray start --address`, or ask for less in the profile's resources; waiting"
        )
        self._carried = ray.remote(_carried())
        self._given = {"num_cpus": of.cpus or 1, "memory": of.memory, "max_retries": 0}

    def slots(self) -> int:
        # Without a head `ray.nodes` would wait until Ray ends this process.
        if self._head is None or self._look():
            self._count = self._fitting()
        return self._count

    def _fitting(self) -> int:
        alive = [node.get("Resources", {}) for node in self._ray.nodes() if node.get("Alive")]
        return sum(int(min(has.get(name, 0.0) // need for name, need in self._needs.items())) for has in alive)

    def submit(self, text: str, label: str) -> ObjectRef[str]:
        named = self._carried.options(name=f"mixture {self._stage}: {label}", **self._given)
        ref: ObjectRef[str] = named.remote(CARRIED, text)
        return ref

    def done(self, running: Collection[ObjectRef[str]], seconds: float) -> list[ObjectRef[str]]:
        self._check()
        ended, others = self._ray.wait(list(running), num_returns=1, timeout=seconds)
        if ended and others:
            ended = ended + self._ray.wait(others, num_returns=len(others), timeout=0)[0]
        return list(ended)

    def result(self, handle: ObjectRef[str]) -> str:
        errors = self._ray.exceptions
        lost = (errors.WorkerCrashedError, errors.NodeDiedError, errors.OutOfMemoryError, errors.ObjectLostError)
        try:
            return str(self._ray.get(handle))
        except lost as error:
            raise LostError(_CAUSES.get(type(error).__name__, type(error).__name__)) from error
        except errors.LocalRayletDiedError as error:
            raise EngineError(
                f"{self._stage}: the Ray node that this driver belongs to has died; start it again, then run the same "
                "command again: what is whole is kept"
            ) from error
        except Exception as error:
            self._check()
            raise EngineError(
                f"{self._stage}: Ray could not run a task: {in_a_line(error)}; look at its logs, then run the same "
                "command again: what is whole is kept"
            ) from error

    def cancel(self, handles: Collection[ObjectRef[str]]) -> None:
        for handle in handles:
            with contextlib.suppress(Exception):
                # Nothing half-written is ever whole, so what runs may be killed.
                self._ray.cancel(handle, force=True)

    def _check(self) -> None:
        """Look for the head now and then; raise when it is away for long."""
        if self._head is not None and time.monotonic() - self._looked >= _LOOK_SECONDS:
            self._look()

    def _look(self) -> bool:
        host, port = self._head or ("", 0)
        found = _answers((host, port), 2)
        self._looked = time.monotonic()
        if found:
            self._heard = self._looked
        elif self._looked - self._heard > _AWAY_SECONDS:
            raise EngineError(
                f"{self._stage}: the head of the Ray cluster at {host}:{port} is gone; start the cluster again, then "
                "run the same command again: what is whole is kept"
            )
        return found


_CAUSES = {
    "WorkerCrashedError": "its process was killed",
    "NodeDiedError": "its node died",
    "OutOfMemoryError": "Ray ended it because its node's memory was nearly used up",
}


def _carried() -> Callable[[str, str], str]:
    def carried(source: str, text: str) -> str:
        return str(eval(source, {"text": text}))  # noqa: S307 - the source is `futures.CARRIED`, text of ours

    # A function inside a function travels by value: a node without our package can run it, and say so.
    return carried


def _endpoint(address: str) -> tuple[str, int] | None:
    """Return the host and port of an address; None where Ray finds it itself."""
    scheme, _, rest = address.rpartition("://")
    host, _, port = rest.partition("/")[0].rpartition(":")
    if rest in ("auto", "local", ""):
        return None
    if not host:
        return rest, _PORTS.get(scheme, _PORTS[""])
    return (host.strip("[]"), int(port)) if port.isdecimal() else None


def _answers(endpoint: tuple[str, int], seconds: float) -> bool:
    try:
        socket.create_connection(endpoint, timeout=seconds).close()
    except OSError:
        return False
    return True


def _connect(ray: ModuleType, address: str) -> None:
    """Join a cluster as its driver; SIGTERM stays ours."""
    alone = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM) if alone else None
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
    except ConnectionError as error:
        raise EngineError(
            f"ray.address {address}: no Ray cluster found from here; start one with `ray start --head`, or run this on "
            "a node of it, or give ray.address"
        ) from error
    except (Exception, SystemExit) as error:
        raise EngineError(
            f"ray.address {address}: cannot join the cluster: {in_a_line(error)}; run this on a node of it, with the "
            "same versions of Python and Ray, or give ray://HOST:10001"
        ) from error
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _quiet(ray: ModuleType) -> Iterator[None]:
    """Keep Ray's reports of killed processes off stdout, which is for our summaries; no option of Ray's does."""
    inner = getattr(ray._private, "worker", None)  # noqa: SLF001 - see above
    printer = getattr(inner, "print_to_stdstream", None)
    if printer is None:
        yield
        return
    setattr(inner, "print_to_stdstream", lambda *_, **__: None)  # noqa: B010 - a module's, and not ours
    try:
        yield
    finally:
        setattr(inner, "print_to_stdstream", printer)  # noqa: B010


def _leave(ray: ModuleType) -> None:
    with contextlib.suppress(Exception):
        ray.shutdown()
