"""What Dask and Ray have in common: tasks go out as JSON text, records come back as JSON text.

    out    {"function": "mixture.shards.write:write_shard", "arguments": {"shard": 3, …}, "versions": {…}, …}
    back   {"record": …}                      what the task returned
           {"error": ["InputError", "…"]}     an error of ours, raised again here as what it was
           {"crash": "KeyError: 'a'", …}      any other error
           {"skew": "0.2.0", …}               the worker has another version of this package, and did nothing
           {"missing": "node-7, /usr/bin/python3"}   the worker does not have this package

The heaviest tasks go first, and only a few times as many as can run at once: a stage of a million tasks never is a
million futures. A task whose worker is killed goes out again, a bounded number of times.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError
from typing import Any, Generic, Protocol, TypeVar

from mixture import __version__, lockfile
from mixture.engine import Task
from mixture.engine.attempt import attempt, in_a_line, kind_of, node
from mixture.errors import EngineError

#: What a worker evaluates, with `text` bound. Only text: it needs neither our package on the scheduler nor the same
#: Python, and a worker without our package can still say so.
CARRIED = (
    "__import__('mixture.engine.futures', fromlist=['answer']).answer(text)"
    " if __import__('importlib.util', fromlist=['find_spec']).find_spec('mixture')"
    " else __import__('json').dumps("
    "{'missing': '%s (%s)' % (__import__('platform').node(), __import__('sys').executable)})"
)

#: Ctrl-C is heard at least this often.
LISTEN_SECONDS = 0.2
#: Tasks under way for each that can run: enough that no worker waits for us, few enough that an error stops the rest.
_DEEP = 3
#: … and at least so many, so that a cluster that grows with demand sees some.
_LEAST = 8
#: How old the count of workers may get.
_COUNT_SECONDS = 2.0

#: Our tasks use caches (tokenizers, n-gram tables) and memory as if they were alone in their process.
_ONE_AT_A_TIME = threading.Lock()

H = TypeVar("H")


class LostError(Exception):
    """What ran a task is gone, through no error of the task.

    Args:
        cause: in a few words.
        runs: how many runs of the task were lost.
    """

    def __init__(self, cause: str, runs: int = 1) -> None:
        super().__init__(cause, runs)
        self.cause = cause
        self.runs = runs


class Cluster(Protocol[H]):
    """What a driver needs of Dask or Ray while one stage runs; `H` is a future of theirs, hashable."""

    #: What to do about too little memory, and about too few workers.
    more_memory: str
    no_worker: str

    def slots(self) -> int:
        """Return how many tasks can run at once now.

        Raises:
            EngineError: the cluster is gone.
        """
        ...

    def submit(self, text: str, label: str) -> H:
        """Send a task's text to be evaluated as `CARRIED`."""
        ...

    def done(self, running: Collection[H], seconds: float) -> list[H]:
        """Return those that have ended, waiting this long for the first.

        Raises:
            EngineError: the cluster is gone.
        """
        ...

    def result(self, handle: H) -> str:
        """Return the answer's text.

        Raises:
            LostError: what ran it was killed.
            EngineError: the cluster is gone, or could not run it.
        """
        ...

    def cancel(self, handles: Collection[H]) -> None:
        """Stop what waits, and what runs if that can be stopped; never raise."""
        ...


@dataclass(frozen=True)
class Rules:
    """How the tasks of one stage are driven.

    Attributes:
        stage: its name.
        retries: how often a task is run again when what ran it is killed.
        say: tells the user one sentence.
        scratch: the nodes' folder for what is fetched from object storage; None for their own choice.
        patience: seconds without any worker before that is said.
    """

    stage: str
    retries: int
    say: Callable[[str], None]
    scratch: str | None = None
    patience: float = 10.0


@dataclass
class _Flight:
    """A task, and how many of its runs were lost."""

    task: Task
    lost: int = 0


@dataclass
class _Crew(Generic[H]):
    """How many tasks can run at once; asked now and then, and missed aloud once."""

    cluster: Cluster[H]
    rules: Rules
    _count: int = 0
    _asked: float = field(default=-_COUNT_SECONDS)
    _seen: float = field(default_factory=time.monotonic)
    _said: bool = False

    def slots(self) -> int:
        now = time.monotonic()
        if now - self._asked >= _COUNT_SECONDS:
            self._count, self._asked = self.cluster.slots(), now
        if self._count:
            self._seen = now
        elif now - self._seen >= self.rules.patience and not self._said:
            self._said = True
            self.rules.say(f"{self.rules.stage}: {self.cluster.no_worker}")
        return self._count


def drive(cluster: Cluster[H], tasks: Sequence[Task], rules: Rules) -> Iterator[tuple[Task, Any]]:
    """Run every task on a cluster; yield each with its record as it ends.

    Args:
        cluster: who runs them.
        tasks: what to run.
        rules: of the stage.

    Raises:
        EngineError: a task's worker was killed too often, a worker has no or another version of this package, or the
            cluster is gone.
        MixtureError: a task's own error; what waits is cancelled.
    """
    waiting = deque(_Flight(task) for task in sorted(tasks, key=lambda task: -task.weight))
    running: dict[H, _Flight] = {}
    crew = _Crew(cluster, rules)
    heard: set[str] = set()
    try:
        while waiting or running:
            most = max(_LEAST, _DEEP * crew.slots())
            while waiting and len(running) < most:
                flight = waiting.popleft()
                running[cluster.submit(question(flight.task, rules.scratch), flight.task.label)] = flight
            for handle in cluster.done(running, LISTEN_SECONDS):
                flight = running.pop(handle)
                try:
                    text = cluster.result(handle)
                except LostError as lost:
                    waiting.appendleft(_again(flight, lost, rules, cluster.more_memory))
                    continue
                yield flight.task, _record(flight.task, text, rules, heard)
    finally:
        if running:
            cluster.cancel(running)


def _again(flight: _Flight, lost: LostError, rules: Rules, more_memory: str) -> _Flight:
    runs = flight.lost + lost.runs
    if runs <= rules.retries:
        return _Flight(flight.task, runs)
    times = "once" if runs == 1 else f"{runs} times"
    raise EngineError(
        f"{rules.stage}: {flight.task.label}: what ran it was lost {times} ({lost.cause}; retries: {rules.retries}), "
        f"most likely for want of memory; {more_memory}, then run the same command again: what is whole is kept"
    ) from lost


def question(task: Task, scratch: str | None = None) -> str:
    """Return the text that goes out for a task."""
    ask = {"function": task.function, "arguments": task.arguments, "versions": _versions(), "scratch": scratch}
    return json.dumps(ask)


def answer(text: str) -> str:
    """Run a task where a worker is, and return the text that goes back. One at a time in a process.

    Args:
        text: what `question` made.
    """
    ask = json.loads(text)
    if ask["versions"]["mixture"] != __version__:
        return json.dumps({"skew": __version__, "where": _where()})
    try:
        here = _versions()
    except PackageNotFoundError as error:
        return json.dumps({"crash": in_a_line(error), "where": _where()})
    unlike = {name: version for name, version in here.items() if version != ask["versions"].get(name)}
    with _ONE_AT_A_TIME:
        if ask["scratch"]:
            os.environ["MIXTURE_SCRATCH"] = ask["scratch"]
        return _outcome(Task(ask["function"], ask["arguments"], 0, ""), {"unlike": unlike, "where": _where()})


def _outcome(task: Task, more: dict[str, Any]) -> str:
    found = attempt(task.function, task.arguments, task.label)
    if "error" not in found:
        return json.dumps(found | more)
    if found["own"]:
        return json.dumps({"error": [found["error"], found["sentence"]]})
    return json.dumps({"crash": found["sentence"], "where": _where()})


def _record(task: Task, text: str, rules: Rules, heard: set[str]) -> Any:
    """Return what an answer holds, or raise what it says; `heard` is what was already said of libraries."""
    back = json.loads(text)
    if "error" in back:
        name, sentence = back["error"]
        raise kind_of(name)(sentence)
    if "crash" in back:
        raise EngineError(
            f"{rules.stage}: {task.label}: failed on {back['where']} with {back['crash']}; "
            "mend that, then run the same command again: what is whole is kept"
        )
    ours = _versions()
    if "missing" in back:
        raise EngineError(
            f"worker {back['missing']} does not have the package mixture; install mixture {ours['mixture']} for that "
            "Python on every node, start the workers again, then run the same command again"
        )
    if "skew" in back:
        raise EngineError(
            f"worker {back['where']} has mixture {back['skew']}, this driver {ours['mixture']}; install "
            f"{ours['mixture']} on every node, start the workers again, then run the same command again"
        )
    for name, version in back["unlike"].items():
        said = f"{name} {version}"
        if said not in heard:
            heard.add(said)
            rules.say(f"worker {back['where']} has {said}, this driver {ours[name]}; the same everywhere is safer")
    return back["record"]


@functools.cache
def _versions() -> dict[str, str]:
    return lockfile.versions_here()


def _where() -> str:
    return f"{node()} ({sys.executable})"
